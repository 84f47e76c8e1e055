// Which maps are drawn. Sends messages, never sets parameters:
//   {kind: "axis", axis, task}  {kind: "swap"}  {kind: "map", name, on}  {kind: "method", name}
//   {kind: "extent", low, high}  {kind: "points" | "n" | "seed", value}

const minus = (x) => String(x).replace("-", "−")

export function render({model}) {
  const send = (message) => model.send_msg(message)
  const labelled = (text, control) => element("label", {class: "field"}, element("span", {text}), control)

  const axes = [0, 1].map((axis) => {
    const select = element("select", {"aria-label": `task of the ${axis ? "vertical" : "horizontal"} axis`})
    select.addEventListener("change", () => send({kind: "axis", axis, task: select.value}))
    return select
  })
  const swap = element("button", {type: "button", text: "⇄", title: "swap the axes", "aria-label": "swap the axes"})
  swap.addEventListener("click", () => send({kind: "swap"}))
  const pair = element("div", {class: "pair", role: "group", "aria-label": "pair of tasks"}, axes[0], swap, axes[1])

  const kinds = element("div", {class: "kinds", role: "group", "aria-label": "maps"})
  const method = element("select", {"aria-label": "merging method"})
  method.addEventListener("change", () => send({kind: "method", name: method.value}))
  const extent = element("select", {"aria-label": "range"})
  extent.addEventListener("change", () => {
    const [low, high] = extent.value.split(",").map(Number)
    send({kind: "extent", low, high})
  })
  const points = element("select", {"aria-label": "resolution"})
  points.addEventListener("change", () => send({kind: "points", value: Number(points.value)}))
  const number = (kind, label, low) => {
    const field = element("input", {type: "number", min: low, step: 1, "aria-label": label})
    field.addEventListener("change", () => send({kind, value: field.value === "" ? null : Number(field.value)}))
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { field.blur(); field.focus() } })
    return field
  }
  const n = number("n", "images a task", 1), seed = number("seed", "seed", 0)
  const root = element("div", {class: "plane"}, pair, kinds, labelled("merged by", method),
    element("div", {class: "fields"}, labelled("range", extent), labelled("resolution", points),
      labelled("images a task", n), labelled("seed", seed)))

  function choices() {
    for (const select of axes) select.replaceChildren(...model.tasks.map(({name, title}) => new Option(title, name)))
    method.replaceChildren(new Option("no merging method", ""), ...model.methods.map(({name, title, explanation}) => {
      const option = new Option(title, name); option.title = explanation
      return option
    }))
    points.replaceChildren(...model.resolutions.map((k) => new Option(`${k} × ${k}`, k)))
    kinds.replaceChildren(...model.kinds.map(({name, title, explanation}) => {
      const button = element("button", {type: "button", text: title, title: explanation, "data-kind": name})
      button.addEventListener("click", () => send({kind: "map", name, on: !model.maps.includes(name)}))
      return button
    }))
    update()
  }
  function update() {
    axes.forEach((select, i) => { select.value = model.pair[i] ?? "" })
    for (const button of kinds.children) button.setAttribute("aria-pressed", String(model.maps.includes(button.dataset.kind)))
    method.value = model.method
    const [low, high] = model.extent
    const known = model.extents.some(([a, b]) => a === low && b === high)
    const ranges = known ? model.extents : [...model.extents, model.extent]
    extent.replaceChildren(...ranges.map(([a, b]) => new Option(`${minus(a)} to ${minus(b)}`, `${a},${b}`)))
    extent.value = `${low},${high}`
    points.value = model.points; n.value = model.n; seed.value = model.seed
  }
  model.on(["tasks", "kinds", "methods", "resolutions"], choices)
  model.on(["pair", "maps", "method", "extents", "extent", "points", "n", "seed", "heard"], update)
  choices()
  return root
}
