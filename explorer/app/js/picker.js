// The catalogue of models: a button that opens it, a search field, a row a model. All as text: the
// rows quote files and hubs.

const part = (tag, name, text = "") => element(tag, {class: name, text})

const megabytes = (size) =>
  size === null ? "" : size < 1000 ? `${size.toFixed(1)} MB` : `${(size / 1000).toFixed(1)} GB`

export function render({model}) {
  const root = part("div", "picker")
  const toggle = part("button", "toggle"); toggle.type = "button"
  const panel = part("div", "panel")
  const search = part("input", "search"); search.type = "search"
  search.placeholder = "name, family, task, licence, or hub:owner/name"
  search.setAttribute("aria-label", "find a model")
  const status = part("div", "status"); status.setAttribute("role", "status")
  const bar = part("div", "bar"), done = part("div", "done"), cancel = part("button", "", "cancel")
  bar.setAttribute("role", "progressbar"); cancel.type = "button"; bar.append(done)
  const list = part("ul", "models")
  panel.append(search, status, bar, cancel, list)
  root.append(toggle, panel)

  const tasksOf = new Map() // what was typed into a row's field, kept when rows are drawn anew
  let open = "" // the name of the row whose details are shown

  const matches = (row) => {
    const searched = ["name", "title", "family", "kind", "tasks", "where", "licence"]
    const text = searched.map((key) => row[key]).join(" ").toLowerCase()
    return search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word))
  }

  const actions = (row) => {
    const line = part("div", "actions")
    if (row.opens) {
      const button = part("button", "go", "open"); button.type = "button"
      button.setAttribute("aria-label", `open ${row.name}`)
      button.addEventListener("click", () => model.send_msg({kind: "open", name: row.name}))
      line.append(button)
    } else if (row.local !== "no" && !row.problem) {
      line.append(part("span", "hint", `a base without tasks; in Python: ex.open_model("${row.name}")`))
    }
    const remote = row.kind === "hub" && row.local !== "yes"
    if (remote && !row.problem && model.allowed) {
      const field = part("input", "tasks"); field.placeholder = "all tasks"
      field.setAttribute("aria-label", `tasks of ${row.name}, or none for all`)
      field.value = tasksOf.get(row.name) ?? ""
      field.addEventListener("input", () => tasksOf.set(row.name, field.value))
      if (row.tasks.includes(",")) line.append(field)
      const button = part("button", "go", "pull"); button.type = "button"
      button.setAttribute("aria-label", `pull ${row.name}`)
      button.disabled = Boolean(model.pulling)
      button.addEventListener("click", () =>
        model.send_msg({kind: "pull", name: row.name, tasks: tasksOf.get(row.name) ?? ""}))
      line.append(button)
    } else if (remote && !row.problem) {
      line.append(part("span", "hint", `in a terminal: explorer zoo pull ${row.name}`))
    }
    return line
  }

  const item = (row) => {
    const made = part("li", row.local === "no" ? "model remote" : "model")
    const head = part("button", "head"); head.type = "button"
    head.setAttribute("aria-expanded", String(open === row.name))
    head.append(part("span", "name", row.name), part("span", "local", row.local === "no" ? "on a hub" : "here"))
    const facts = [row.family, megabytes(row.size), row.licence].filter(Boolean).join(" · ")
    head.append(part("span", "title", row.title), part("span", "facts", facts))
    head.addEventListener("click", () => { open = open === row.name ? "" : row.name; rows() })
    made.append(head)
    if (row.problem) made.append(part("div", "problem", row.problem))
    if (open === row.name) {
      for (const [label, text] of [["tasks", row.tasks], ["from", row.where], ["mind", row.caveats]])
        if (text) made.append(part("div", "detail", `${label}: ${text}`))
      made.append(actions(row))
    }
    return made
  }

  const rows = () => {
    const found = model.rows.filter(matches)
    list.replaceChildren(...found.map(item))
    if (!found.length) list.append(part("li", "none", model.loading ? "reading the catalogue…" : "no model has these words"))
  }
  const shown = () => {
    toggle.textContent = model.shown ? "close the catalogue" : "find a model…"
    toggle.setAttribute("aria-expanded", String(model.shown))
    panel.hidden = !model.shown
  }
  const working = () => {
    status.textContent = model.pulling ? `${model.pulling}: ${model.status}` : model.status
    bar.hidden = cancel.hidden = !model.pulling
    done.style.width = `${100 * model.progress}%`
    bar.setAttribute("aria-valuenow", Math.round(100 * model.progress))
  }

  toggle.addEventListener("click", () => model.send_msg({kind: "show", shown: !model.shown}))
  cancel.addEventListener("click", () => model.send_msg({kind: "cancel"}))
  search.addEventListener("input", rows)
  search.addEventListener("keydown", (event) => {
    const address = search.value.trim()
    if (event.key === "Enter" && address.startsWith("hub:")) model.send_msg({kind: "find", name: address})
  })
  model.on(["rows", "loading", "allowed", "pulling"], rows)
  model.on("shown", shown)
  model.on(["pulling", "progress", "status"], working)
  rows(); shown(); working()
  // A notebook loses what it is sent before it is connected; from here on it is.
  setTimeout(() => model.send_msg({kind: "ready"}), 50)
  return root
}
