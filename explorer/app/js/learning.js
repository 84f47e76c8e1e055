// The head of an experiment's panel. Sends messages, each with the experiment's name:
//   {kind: "scaled", on}  {kind: "examples", value}  {kind: "measure"}  {kind: "stop"}

export function render({model}) {
  const send = (message) => model.send_msg({name: model.name_of, ...message})
  const title = element("span", {class: "title"})
  const shipped = element("span", {class: "shipped", text: "cached"})
  const law = element("div", {class: "law"})
  const rescaled = element("button", {type: "button", text: "rescale", title: "divide the axis by the law: curves collapse"})
  rescaled.addEventListener("click", () => send({kind: "scaled", on: !model.scaled}))
  const slider = element("input", {type: "range", min: 0, step: 1})
  const number = element("output")
  const named = () => `P = ${model.choices[slider.value].toLocaleString("en")}`
  slider.addEventListener("input", () => { number.textContent = named(); slider.setAttribute("aria-valuetext", named()) })
  slider.addEventListener("change", () => send({kind: "examples", value: model.choices[slider.value]}))
  const act = element("button", {type: "button", class: "act"})
  act.addEventListener("click", () => {
    if (!model.busy) send({kind: "examples", value: model.choices[slider.value]})
    send({kind: model.busy ? "stop" : "measure"})
  })
  const said = element("div", {class: "said", role: "status"})
  const key = element("div", {class: "key"})
  const root = element("div", {class: "head"},
    element("div", {class: "line"}, title, shipped), law,
    element("div", {class: "line"}, slider, number, act, rescaled), said, key)

  const update = () => {
    title.textContent = model.title; law.textContent = model.law; law.title = model.law
    shipped.title = model.shipped
    rescaled.setAttribute("aria-pressed", String(model.scaled))
    rescaled.setAttribute("aria-label", `rescale: ${model.title}`)
    slider.max = model.choices.length - 1
    slider.value = Math.max(0, model.choices.indexOf(model.examples))
    slider.setAttribute("aria-label", `examples: ${model.title}`)
    number.textContent = named(); slider.setAttribute("aria-valuetext", named())
    act.textContent = model.busy ? "stop" : "measure"
    act.setAttribute("aria-label", `${model.busy ? "stop" : "measure"}: ${model.title}`)
    said.textContent = said.title = model.said
    key.replaceChildren(...model.key.map(([label, colour, mark]) =>
      element("span", {}, element("i", {class: mark, style: `--ink:${colour}`}), label)))
    root.dataset.said = model.said
  }
  model.on(["title", "law", "shipped", "choices", "examples", "scaled", "said", "busy", "key", "heard"], update)
  update()
  return root
}
