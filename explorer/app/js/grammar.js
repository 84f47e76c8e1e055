// Which grammar, which string, how it is noised, how much is measured. Sends messages:
//   {kind: "sizes", v, m, s, L}  {kind: "process", name}  {kind: "renew", what}
//   {kind: "seed", what, value}  {kind: "count", what, value}  {kind: "control", name, on}

const SIZES = [["v", "symbols"], ["m", "rules a symbol"], ["s", "children a node"], ["L", "levels"]]
const SEEDS = [["grammar", "rules"], ["datum", "datum"], ["noise", "noise"]]

export function render({model}) {
  const send = (message) => model.send_msg(message)
  const labelled = (text, control) => element("label", {class: "field"}, element("span", {text}), control)
  const number = (label, low, act) => {
    const field = element("input", {type: "number", min: low, step: 1, "aria-label": label})
    field.addEventListener("change", () => act(field.value === "" ? null : Number(field.value)))
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { field.blur(); field.focus() } })
    return field
  }

  const presets = element("div", {class: "presets", role: "group", "aria-label": "grammars"})
  const sizes = SIZES.map(([name, title]) => {
    const field = element("input", {type: "number", min: 1, step: 1, "aria-label": `${name}, ${title}`, title})
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") apply() })
    return field
  })
  const apply = () => send({kind: "sizes", ...Object.fromEntries(SIZES.map(([name], i) => [name, sizes[i].value === "" ? null : Number(sizes[i].value)]))})
  const use = element("button", {type: "button", text: "use", title: "use a grammar of these sizes"})
  use.addEventListener("click", apply)
  const custom = element("div", {class: "sizes", role: "group", "aria-label": "sizes of the grammar"},
    ...SIZES.map(([name], i) => labelled(name, sizes[i])), use)

  const process = element("select", {"aria-label": "process"})
  process.addEventListener("change", () => send({kind: "process", name: process.value}))

  const seeds = SEEDS.map(([what, title]) => {
    const renew = element("button", {type: "button", text: `new ${what}`, title: `another ${title}: the next seed`})
    renew.addEventListener("click", () => send({kind: "renew", what}))
    const field = number(`seed of the ${title}`, 0, (value) => send({kind: "seed", what, value}))
    return {what, field, row: element("div", {class: "seed"}, renew, element("span", {text: "seed"}), field)}
  })

  const counts = [["data", "strings"], ["samples", "trajectories"]].map(([what, title]) =>
    [what, title, number(title, 1, (value) => send({kind: "count", what, value}))])
  const seed = number("seed of the measurement", 0, (value) => send({kind: "seed", what: "seed", value}))
  const controls = element("div", {class: "controls", role: "group", "aria-label": "controls"})
  const heading = (text) => element("div", {class: "heading", text})
  const root = element("div", {class: "grammar"},
    heading("Grammar"), presets, custom, seeds[0].row,
    heading("String and noise"), labelled("process", process), seeds[1].row, seeds[2].row,
    heading("Curves"), element("div", {class: "fields"}, ...counts.map(([, title, field]) => labelled(title, field)), labelled("seed", seed)),
    element("div", {class: "hint", text: "Controls without a hierarchy, on the same axes:"}), controls,
    element("div", {class: "hint read", text: "In the tree: a grey node kept its symbol, and the fuller it is, the surer is the exact posterior. "
      + "A coloured node changed; the colour is that of the depth at which its chunk begins."}))

  function choices() {
    presets.replaceChildren(...model.presets.map(({sizes: [v, m, s, L], title}) => {
      const button = element("button", {type: "button", text: `(${v}, ${m}, ${s}, ${L})`, title: `v = ${v}, m = ${m}, s = ${s}, L = ${L}: ${title}`})
      button.addEventListener("click", () => send({kind: "sizes", v, m, s, L}))
      return button
    }))
    process.replaceChildren(...model.processes.map(({name, title}) => new Option(title, name)))
    controls.replaceChildren(...model.all_controls.map(({name, title, colour}) => {
      const button = element("button", {type: "button", "data-name": name}, element("i", {style: `background:${colour}`}), title)
      button.addEventListener("click", () => send({kind: "control", name, on: !model.controls.includes(name)}))
      return button
    }))
    update(); chosen()
  }
  function chosen() { sizes.forEach((field, i) => { field.value = model.sizes[i] ?? "" }) }
  function update() {
    model.presets.forEach(({sizes: preset}, i) =>
      presets.children[i].setAttribute("aria-pressed", String(preset.every((x, k) => x === model.sizes[k]))))
    process.value = model.process
    for (const {what, field} of seeds) { field.value = model.seeds[what] ?? ""; field.placeholder = "given" }
    for (const [what, , field] of counts) field.value = model.counts[what] ?? ""
    seed.value = model.seeds.seed ?? ""
    for (const button of controls.children) button.setAttribute("aria-pressed", String(model.controls.includes(button.dataset.name)))
  }
  model.on(["presets", "processes", "all_controls"], choices)
  model.on("sizes", chosen)     // only then: what was typed and refused stays, to be corrected
  model.on(["sizes", "process", "seeds", "counts", "controls", "heard"], update)
  choices()
  return root
}
