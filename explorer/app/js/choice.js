// One of a few, as buttons side by side. Sends {kind: "choose", name}.

export function render({model}) {
  const root = document.createElement("div"); root.className = "colours"
  root.setAttribute("role", "group")
  const label = document.createElement("span"), buttons = document.createElement("span")
  buttons.className = "colours"
  root.append(label, buttons)

  function choices() {
    label.textContent = model.label
    root.setAttribute("aria-label", model.label)
    buttons.replaceChildren(...model.choices.map(({name, title, explanation}) => {
      const button = document.createElement("button"); button.type = "button"
      button.textContent = title; button.title = explanation; button.dataset.name = name
      button.addEventListener("click", () => model.send_msg({kind: "choose", name}))
      return button
    }))
    update()
  }
  function update() {
    for (const button of buttons.children) button.setAttribute("aria-pressed", String(button.dataset.name === model.chosen))
  }
  model.on(["label", "choices"], choices)
  model.on("chosen", update)
  choices()
  return root
}
