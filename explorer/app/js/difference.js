// Images whose label differs between a task's own edit and the joint one: what makes the error.
// Words come from class names, which may come from files: they are written with textContent only.
// Sends {kind: "task", task}  {kind: "page", step}

function node(tag, name, text) {
  const made = document.createElement(tag)
  if (name) made.className = name
  if (text !== undefined) made.textContent = text
  return made
}

export function render({model}) {
  const root = node("div", "difference")
  const head = node("div", "head")
  const tasks = node("div", "tasks"); tasks.setAttribute("role", "group"); tasks.setAttribute("aria-label", "images of")
  const back = node("button", "page", "‹"), next = node("button", "page", "›"), where = node("span", "where")
  back.type = next.type = "button"
  back.setAttribute("aria-label", "earlier images"); next.setAttribute("aria-label", "later images")
  head.append(tasks, node("span", "push"), back, where, next)
  const sentence = node("div", "sentence"), detail = node("div", "detail"), grid = node("div", "grid")
  sentence.setAttribute("role", "status"); grid.setAttribute("role", "list")
  root.append(head, sentence, detail, grid)
  back.addEventListener("click", () => model.send_msg({kind: "page", step: -1}))
  next.addEventListener("click", () => model.send_msg({kind: "page", step: 1}))

  function word(text, is_true) {
    const made = node("span", is_true ? "word right" : "word wrong", text)
    made.prepend(node("b", "", is_true ? "✓ " : "✗ "))
    return made
  }
  function tile([single, joint, truth], i) {
    const made = node("div", "tile"); made.setAttribute("role", "listitem")
    const picture = node("div", "picture"), labels = node("div", "labels")
    picture.style.setProperty("--column", i % model.columns)
    picture.style.setProperty("--row", Math.floor(i / model.columns))
    const alone = node("div", "line"), together = node("div", "line")
    alone.append(node("span", "who", "alone"), word(single, single === truth))
    together.append(node("span", "who", "joint"), word(joint, joint === truth))
    labels.append(alone, together)
    if (single !== truth && joint !== truth) {
      const line = node("div", "line")
      line.append(node("span", "who", "true"), node("span", "word", truth))
      labels.append(line)
    }
    made.append(picture, labels)
    made.title = `with its own task vector alone: ${single}; with both: ${joint}; true: ${truth}`
    made.setAttribute("aria-label", made.title)
    return made
  }
  function pictures() {
    grid.style.setProperty("--sprite", `url(${model.sprite})`)
    grid.style.setProperty("--columns", model.columns)
    grid.style.setProperty("--rows", Math.ceil(model.tiles.length / model.columns))
    grid.replaceChildren(...model.tiles.map(tile))
  }
  function update() {
    tasks.replaceChildren(...model.tasks.map(([title, count], i) => {
      const button = node("button", "", `${title} (${count})`); button.type = "button"
      button.setAttribute("aria-pressed", String(i === model.task))
      button.addEventListener("click", () => model.send_msg({kind: "task", task: i}))
      return button
    }))
    sentence.textContent = model.sentence; detail.textContent = model.detail
    where.textContent = model.where
    back.disabled = model.page <= 0; next.disabled = model.page >= model.pages - 1
  }
  model.on(["sprite", "tiles", "columns"], pictures)
  model.on(["tasks", "task", "sentence", "detail", "page", "pages", "where"], update)
  pictures(); update()
  return root
}
