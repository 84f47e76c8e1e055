// Numbers under one map. Sends {kind: "pin"} and {kind: "look"}.

export function render({model}) {
  const root = document.createElement("div"); root.className = "numbers"
  const numbers = document.createElement("dl")
  const note = document.createElement("span"); note.className = "note"; note.setAttribute("role", "status")
  const pin = document.createElement("button"); pin.type = "button"
  const look = document.createElement("button"); look.type = "button"; look.textContent = "images"
  look.title = "show this map's images below"
  const push = document.createElement("span"); push.className = "push"
  root.append(numbers, note, push, look, pin)
  pin.addEventListener("click", () => model.send_msg({kind: "pin"}))
  look.addEventListener("click", () => model.send_msg({kind: "look"}))

  function update() {
    numbers.replaceChildren(...model.numbers.map(([label, value, explanation]) => {
      const item = document.createElement("div"); item.title = explanation
      const term = document.createElement("dt"), data = document.createElement("dd")
      term.textContent = label; data.textContent = value
      item.append(term, data)
      return item
    }))
    note.textContent = model.note
    pin.textContent = model.pinned ? "unpin" : "pin"
    pin.title = model.pinned ? "let this map go" : "keep this map beside the others for comparison"
    look.setAttribute("aria-pressed", String(model.looked_at))
    look.hidden = model.pinned
    root.classList.toggle("looked-at", model.looked_at)
    root.classList.toggle("provisional", model.provisional)
  }
  model.on(["numbers", "note", "pinned", "looked_at", "provisional"], update)
  update()
  return root
}
