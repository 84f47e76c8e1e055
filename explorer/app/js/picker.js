// The catalogue of models: a button that opens it, a search field, filters, a row a model, and a file
// to hand in where that is allowed. All as text: the rows quote files and hubs.

const PART = 1_000_000 // bytes of a file in one message

// What a list may be narrowed to: [its name, what it says of a row].
const SIZES = [[100, "under 100 MB"], [1000, "under 1 GB"], [10_000, "under 10 GB"], [Infinity, "10 GB and more"]]
const FILTERS = [
  ["family", (row) => row.family || "unknown"],
  ["size", (row) => row.size === null ? "unknown" : SIZES.find(([most]) => row.size < most)[1]],
  ["source", (row) => row.kind],
  ["licence", (row) => row.licence || "not stated"],
]

const isPath = (text) => /^([/~]|\.{1,2}[/\\]|[A-Za-z]:[/\\])/.test(text)

const base64 = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader()
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1))
  reader.onerror = () => reject(reader.error)
  reader.readAsDataURL(file)
})

const part = (tag, name, text = "") => element(tag, {class: name, text})

const megabytes = (size) =>
  size === null ? "" : size < 1000 ? `${size.toFixed(1)} MB` : `${(size / 1000).toFixed(1)} GB`

export function render({model}) {
  const root = part("div", "picker")
  const toggle = part("button", "toggle"); toggle.type = "button"
  const panel = part("div", "panel")
  const search = part("input", "search"); search.type = "search"
  search.placeholder = `name, family, task, licence, hub:owner/name${model.paths ? ", or a folder" : ""}`
  search.setAttribute("aria-label", "find a model")
  const status = part("div", "status"); status.setAttribute("role", "status")
  const bar = part("div", "bar"), done = part("div", "done"), cancel = part("button", "", "cancel")
  bar.setAttribute("role", "progressbar"); cancel.type = "button"; bar.append(done)
  const list = part("ul", "models")
  const filters = part("div", "filters"), selects = new Map()
  for (const [name] of FILTERS) {
    const select = part("select"); select.setAttribute("aria-label", name)
    select.addEventListener("change", () => rows())
    selects.set(name, select); filters.append(select)
  }
  const here = part("input"), hereLabel = part("label", "here"); here.type = "checkbox"
  here.addEventListener("change", () => rows())
  hereLabel.append(here, "here already"); filters.append(hereLabel)
  const own = part("input"), handIn = part("button", "hand-in", "add a checkpoint…")
  own.type = "file"; own.accept = ".safetensors,.pt,.pth,.bin,.ckpt,.pkl"; own.hidden = true
  own.setAttribute("aria-label", "checkpoint file"); handIn.type = "button"
  handIn.title = "It becomes a task of the open model: name it after one whose images it is for."
  panel.append(search, filters, own, handIn, status, bar, cancel, list)
  root.append(toggle, panel)

  const tasksOf = new Map() // what was typed into a row's field, kept when rows are drawn anew
  let open = "" // the name of the row whose details are shown

  // A filter offers what the rows have; what was chosen stays, also when rows come and go.
  const offered = () => {
    for (const [name, of] of FILTERS) {
      const select = selects.get(name), chosen = select.value
      const values = [...new Set([...model.rows.map(of), ...(chosen ? [chosen] : [])])]
      if (name === "size") {
        const order = [...SIZES.map(([, label]) => label), "unknown"]
        values.sort((a, b) => order.indexOf(a) - order.indexOf(b))
      } else values.sort()
      const any = part("option", "", `any ${name}`); any.value = ""
      select.replaceChildren(any, ...values.map((value) => {
        const option = part("option", "", value); option.value = value
        return option
      }))
      select.value = chosen
    }
  }

  // What narrows the list now: [what it is, whether a row passes, how to let it go].
  const narrowing = () => {
    const active = FILTERS.filter(([name]) => selects.get(name).value).map(([name, of]) => {
      const select = selects.get(name)
      return [`${name} ${select.value}`, (row) => of(row) === select.value, () => { select.value = "" }]
    })
    if (here.checked) active.push(["here already", (row) => row.local !== "no", () => { here.checked = false }])
    if (search.value.trim()) active.push([`the words “${search.value.trim()}”`, matches, () => { search.value = "" }])
    return active
  }

  // No row is left: each filter alone that would bring some back, as a button that lets it go.
  const relaxing = (active) => {
    const line = part("li", "none", model.loading ? "reading the catalogue…" : "no model passes all filters")
    line.setAttribute("role", "status")
    if (model.loading || !model.rows.length) return line
    const ways = active.map((way) => {
      const others = active.filter((other) => other !== way)
      return [way, model.rows.filter((row) => others.every(([, passes]) => passes(row))).length]
    }).filter(([, n]) => n)
    const all = [[["all of them", null, () => active.forEach(([, , letGo]) => letGo())], model.rows.length]]
    for (const [[what, , letGo], n] of ways.length ? ways : all) {
      const button = part("button", "relax", `without ${what}: ${n}`); button.type = "button"
      button.addEventListener("click", () => { letGo(); rows(); search.focus() })
      line.append(button)
    }
    return line
  }

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
    } else if (row.adds) {
      const button = part("button", "go", "add to the open model"); button.type = "button"
      button.setAttribute("aria-label", `add ${row.name} to the open model`)
      button.addEventListener("click", () => model.send_msg({kind: "add", name: row.name}))
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
    const active = narrowing()
    const found = model.rows.filter((row) => active.every(([, passes]) => passes(row)))
    list.replaceChildren(...found.map(item))
    if (!found.length) list.append(relaxing(active))
  }
  const shown = () => {
    toggle.textContent = model.shown ? "close the catalogue" : "find a model…"
    toggle.setAttribute("aria-expanded", String(model.shown))
    panel.hidden = !model.shown
  }
  let file = null // what is handed in
  const begin = (chosen) => {
    if (!chosen || model.pulling) return
    file = chosen
    model.send_msg({kind: "upload", name: file.name, size: file.size})
  }
  const send = async () => {
    const at = model.wanted
    if (file === null || at < 0 || at >= file.size) return
    try {
      model.send_msg({kind: "part", at, data: await base64(file.slice(at, at + PART))})
    } catch (error) { // it was deleted or changed meanwhile
      status.textContent = `${file.name} cannot be read (${error?.message ?? error}); choose it again`
      model.send_msg({kind: "cancel"})
    }
  }
  const allowed = () => { handIn.hidden = !model.uploads; handIn.disabled = Boolean(model.pulling) }
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
    const known = address.startsWith("hub:") || (model.paths && isPath(address))
    if (event.key === "Enter" && known) model.send_msg({kind: "find", name: address})
  })
  handIn.addEventListener("click", () => own.click())
  own.addEventListener("change", () => { begin(own.files[0]); own.value = "" })
  panel.addEventListener("dragover", (event) => { if (model.uploads) event.preventDefault() })
  panel.addEventListener("drop", (event) => {
    if (!model.uploads) return
    event.preventDefault(); begin(event.dataTransfer.files[0])
  })
  model.on("rows", offered)
  model.on(["rows", "loading", "allowed", "pulling"], rows)
  model.on("wanted", send)
  model.on(["uploads", "pulling"], allowed)
  model.on("shown", shown)
  model.on(["pulling", "progress", "status"], working)
  offered(); rows(); shown(); working(); allowed()
  // A notebook loses what it is sent before it is connected; from here on it is.
  setTimeout(() => model.send_msg({kind: "ready"}), 50)
  return root
}
