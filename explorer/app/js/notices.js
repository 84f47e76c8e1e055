// One line that says what is on screen and whether it is catching up, and sentences about what went
// wrong. Both as text: the sentences quote files, links and people.

export function render({model}) {
  const root = document.createElement("div"); root.className = "notices"
  const line = document.createElement("div"); line.className = "line"; line.setAttribute("role", "status")
  const spinner = document.createElement("span"); spinner.className = "spinner"; spinner.setAttribute("aria-hidden", "true")
  const text = document.createElement("span"); text.className = "text"
  const bar = document.createElement("span"); bar.className = "bar"
  const done = document.createElement("span"); done.className = "done"
  bar.append(done)
  const action = document.createElement("button"); action.type = "button"; action.className = "action"
  action.addEventListener("click", () => model.send_msg({kind: "action", name: model.action}))
  line.append(spinner, text, bar, action)
  const list = document.createElement("div"); list.className = "list"; list.setAttribute("role", "alert")
  root.append(line, list)

  const status = () => {
    line.classList.toggle("busy", model.busy)
    text.textContent = text.title = model.busy && model.queue ? `${model.text} · ${model.queue}` : model.text
    bar.hidden = !(model.busy && model.progress > 0 && model.progress < 1)
    done.style.width = `${100 * model.progress}%`
    action.textContent = model.action; action.hidden = !model.action
  }
  const sentences = () => list.replaceChildren(...model.sentences.map((sentence, i) => {
    const item = document.createElement("div"); item.className = "sentence"
    const words = document.createElement("span"); words.textContent = sentence
    const close = document.createElement("button"); close.type = "button"; close.textContent = "×"
    close.setAttribute("aria-label", "dismiss")
    close.addEventListener("click", () => model.send_msg({kind: "dismiss", index: i}))
    item.append(words, close)
    return item
  }))
  model.on(["text", "busy", "progress", "action", "queue"], status)
  model.on("sentences", sentences)
  status(); sentences()
  // A notebook loses what it is sent before it is connected; from here on it is.
  setTimeout(() => model.send_msg({kind: "ready"}), 50)
  return root
}
