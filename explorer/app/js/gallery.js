// Test images of the focused task with predicted label and confidence. The pictures come once, as
// one sprite; every update is a short list of [predicted, confidence, change, was] a tile.
// Class names may come from files: they are written with textContent only.

const BADGE = {right: "✓", wrong: "✗", became_right: "▲", became_wrong: "▼", other_wrong: "≠"}
const meanings = (base) => ({
  right: `right, as ${base}`, wrong: `wrong, as ${base}`, became_right: "became right",
  became_wrong: "became wrong", other_wrong: `wrong in another way than ${base}`,
})

function node(tag, name, text) {
  const made = document.createElement(tag)
  if (name) made.className = name
  if (text !== undefined) made.textContent = text
  return made
}

export function render({model}) {
  const MEANING = meanings(model.base)
  const root = node("div", "gallery")
  const head = node("div", "head")
  const focus = node("select"); focus.setAttribute("aria-label", "task shown")
  const changed = node("button", "filter", "changed only"); changed.type = "button"
  changed.title = `show only images whose label differs from ${model.base}`
  const back = node("button", "page", "‹"), next = node("button", "page", "›"), where = node("span", "where")
  back.type = next.type = "button"
  back.setAttribute("aria-label", "earlier images"); next.setAttribute("aria-label", "later images")
  const counts = node("div", "counts"); counts.setAttribute("role", "status")
  const grid = node("div", "grid"); grid.setAttribute("role", "list")
  const empty = node("div", "empty")
  head.append(focus, changed, node("span", "push"), back, where, next)
  root.append(head, counts, grid, empty)

  let tiles = []
  focus.addEventListener("change", () => model.send_msg({kind: "focus", task: focus.value}))
  changed.addEventListener("click", () => model.send_msg({kind: "changed_only", on: !model.changed_only}))
  back.addEventListener("click", () => model.send_msg({kind: "page", step: -1}))
  next.addEventListener("click", () => model.send_msg({kind: "page", step: 1}))

  function build() {
    grid.replaceChildren()
    grid.style.setProperty("--sprite", `url(${model.sprite})`)
    grid.style.setProperty("--columns", model.columns)
    grid.style.setProperty("--rows", Math.ceil(model.labels.length / model.columns))
    tiles = model.labels.map((_, i) => {
      const tile = node("div", "tile"); tile.setAttribute("role", "listitem")
      const picture = node("div", "picture"), badge = node("span", "badge"), label = node("div", "label")
      const bar = node("div", "bar"), amount = node("div", "amount")
      picture.style.setProperty("--column", i % model.columns)
      picture.style.setProperty("--row", Math.floor(i / model.columns))
      picture.append(badge); bar.append(amount); tile.append(picture, label, bar)
      grid.append(tile)
      return {tile, badge, label, amount, predicted: -1}
    })
    update()
  }

  function update_tile(parts, data, truth) {
    const {tile, badge, label, amount} = parts
    const [predicted, confidence, change, was] = data ?? [-1, 0, "pending", -1]
    if (predicted < 0) {              // not reached yet by this recipe's refinement
      tile.classList.add("stale")
      return
    }
    const name = (k) => model.class_names[k] ?? `class ${k}`
    tile.className = `tile ${change}`
    badge.textContent = BADGE[change]
    label.textContent = name(predicted)
    amount.style.width = `${Math.round(100 * confidence)}%`
    const flipped = was >= 0 && was !== predicted
    const text = `predicted ${name(predicted)}, confidence ${(100 * confidence).toFixed(0)} %; true ${name(truth)}; `
      + MEANING[change] + (flipped ? `; a moment ago ${name(was)}` : "")
    tile.title = text; tile.setAttribute("aria-label", text)
    if (flipped && parts.predicted !== predicted) {
      tile.classList.add("just")
      clearTimeout(parts.timer)
      parts.timer = setTimeout(() => tile.classList.remove("just"), 1600)
    }
    parts.predicted = predicted
  }

  function update() {
    let shown = 0
    tiles.forEach((parts, i) => {
      const data = model.tiles[i]
      update_tile(parts, data, model.labels[i])
      const change = data?.[2] ?? ""
      const hide = model.changed_only && !["became_right", "became_wrong", "other_wrong"].includes(change)
      parts.tile.hidden = hide
      shown += hide ? 0 : 1
    })
    counts.replaceChildren(...model.counts.map(([kind, text]) => {
      const item = node("span", `count ${kind}`)
      if (BADGE[kind]) item.append(node("b", "", BADGE[kind]))
      item.append(document.createTextNode(text))
      return item
    }))
    empty.textContent = model.changed_only && !shown ? "no image on this page changed its label" : ""
    changed.setAttribute("aria-pressed", String(model.changed_only))
    where.textContent = model.where
    back.disabled = model.page <= 0; next.disabled = model.page >= model.pages - 1
  }

  function tasks() {
    focus.replaceChildren(...model.tasks.map(({name, title}) => new Option(title, name)))
    focus.value = model.focus
  }
  model.on(["sprite", "labels", "columns"], build)
  model.on(["tiles", "counts", "class_names", "changed_only", "where", "page", "pages"], update)
  model.on("tasks", tasks)
  model.on("focus", () => { focus.value = model.focus })
  tasks(); build()
  return root
}
