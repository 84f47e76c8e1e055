// What a tab computes: a button to start and to stop it, its settings, how far it is, what it found.
// Sends {kind: "start" | "stop"} and {kind: "field", name, value}.

export function render({model}) {
  const button = element("button", {type: "button", class: "go"})
  button.addEventListener("click", () => model.send_msg({kind: model.busy ? "stop" : "start"}))
  const fields = element("span", {class: "fields"})
  const bar = element("span", {class: "bar"}, element("span", {class: "done"}))
  const left = element("span", {class: "left", role: "status"})
  const says = element("div", {class: "says"})
  const root = element("div", {class: "job"}, element("div", {class: "line"}, button, fields, bar, left), says)
  const inputs = new Map()

  function build() {
    inputs.clear()
    fields.replaceChildren(...model.fields.map(({name, label, choices, low}) => {
      const input = choices ? element("select") : element("input", {type: "number", min: low ?? 0, step: 1})
      if (choices) input.replaceChildren(...choices.map(([value, title]) => new Option(title, value)))
      input.setAttribute("aria-label", label)
      input.addEventListener("change", () => model.send_msg({kind: "field", name,
        value: choices ? input.value : input.value === "" ? null : Number(input.value)}))
      input.addEventListener("keydown", (event) => { if (event.key === "Enter") { input.blur(); input.focus() } })
      inputs.set(name, input)
      return element("label", {}, element("span", {text: label}), input)
    }))
    update()
  }
  function update() {
    button.textContent = model.busy ? "stop" : model.title
    button.classList.toggle("busy", model.busy)
    bar.hidden = !model.busy
    bar.firstChild.style.width = `${100 * model.progress}%`
    left.textContent = model.left
    says.textContent = model.says
    for (const [name, input] of inputs) input.value = model.values[name]
  }
  model.on("fields", build)
  model.on(["busy", "progress", "title", "left", "says", "values", "heard"], update)
  build()
  return root
}
