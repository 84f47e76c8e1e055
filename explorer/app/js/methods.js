// Which merging method, and its options as its signature gives them. Sends
//   {kind: "method", name}  {kind: "option", name, value, done, view, seq}

const MOST_STEPS = 20000        // more than a slider can tell apart: a number field alone

const written = (x) => String(Number(x.toPrecision(6)))

export function render({model}) {
  let seq = 0, queued = null, frame = 0, held = null
  const view = Math.random().toString(36).slice(2)   // the same lens may be on screen twice
  const rows = new Map()
  const send = (message) => model.send_msg({...message, view, seq: ++seq})
  const soon = (message) => {      // a drag gives more events than screens have pictures
    queued = message
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; if (queued) { send(queued); queued = null } })
  }
  const set = (name, value) => {
    cancelAnimationFrame(frame); frame = 0; queued = null
    send({kind: "option", name, value, done: true})
  }

  const select = element("select", {"aria-label": "merging method"})
  select.addEventListener("change", () => send({kind: "method", name: select.value}))
  const summary = element("div", {class: "summary"})
  const options = element("div", {class: "options"})
  const reference = element("div", {class: "reference"})
  const root = element("div", {class: "methods"}, element("div", {class: "head", text: "Merging method"}), select, summary, options, reference)

  function choice({name, choices, text}) {
    const field = element("select", {"aria-label": name, title: text})
    field.replaceChildren(...choices.map(([value, title]) => new Option(title, value)))
    field.addEventListener("change", () => set(name, field.value))
    return {nodes: [field], show: (value) => { field.value = value }}
  }
  function words({name, text}) {
    const field = element("input", {type: "text", class: "words", "aria-label": name, title: text, spellcheck: "false"})
    let typing = false
    field.addEventListener("input", () => { typing = true })
    field.addEventListener("blur", () => { typing = false })
    field.addEventListener("change", () => { typing = false; set(name, field.value.trim()) })
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { field.blur(); field.focus() } })
    return {nodes: [field], show: (value) => { if (!typing) field.value = value }}
  }
  function number({name, text, low, high, step, whole, scale}) {
    const limits = {min: low ?? "", max: high ?? "", step: scale === "log" ? "any" : step ?? (whole ? 1 : "any")}
    const field = element("input", {type: "number", "aria-label": `${name}, exact value`, title: text, ...limits})
    let typing = false
    field.addEventListener("input", () => { typing = true })
    field.addEventListener("blur", () => { typing = false })
    field.addEventListener("change", () => { typing = false; if (field.value !== "") set(name, Number(field.value)) })
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { field.blur(); field.focus() } })
    const show_number = (value) => { if (!typing) field.value = written(value) }
    if (low === null || high === null || (scale !== "log" && (high - low) / (step || 1) > MOST_STEPS)) return {nodes: [element("span"), field], show: show_number}
    // On a logarithmic slider equal ways are equal factors; what it sets has two digits.
    const log = scale === "log", ends = log ? [Math.log10(low), Math.log10(high)] : [low, high]
    const range = element("input", {type: "range", "aria-label": name, title: text, min: ends[0], max: ends[1], step: log ? 0.01 : limits.step})
    const value_of = () => log ? Number((10 ** Number(range.value)).toPrecision(2)) : Number(range.value)
    const fill = () => {
      range.style.setProperty("--at", `${100 * (range.value - ends[0]) / (ends[1] - ends[0])}%`)
      if (log) range.setAttribute("aria-valuetext", written(value_of()))
    }
    range.addEventListener("pointerdown", () => { held = name })
    for (const event of ["pointerup", "pointercancel", "blur"]) range.addEventListener(event, () => { held = null })
    range.addEventListener("input", () => {
      field.value = written(value_of()); fill()
      soon({kind: "option", name, value: value_of(), done: false})
    })
    range.addEventListener("change", () => { held = null; set(name, value_of()) })
    return {nodes: [range, field], show: (value) => { range.value = log ? Math.log10(value) : value; fill(); show_number(value) }}
  }

  let built = ""
  function build() {
    const wanted = JSON.stringify(model.options.map((option) => ({...option, value: 0})))
    if (wanted === built) return
    built = wanted
    rows.clear()
    options.replaceChildren(...model.options.map((option) => {
      const row = option.choices.length ? choice(option) : option.written ? words(option) : number(option)
      rows.set(option.name, row)
      return element("div", {class: "row", role: "group", "aria-label": option.name},
        element("span", {class: "name", text: option.name.replaceAll("_", " "), title: option.text}), ...row.nodes)
    }))
  }
  function update() {
    if ((model.heard[view] ?? 0) < seq) return   // an older echo: a newer message is on its way
    build()
    select.value = model.method
    summary.textContent = model.summary
    reference.textContent = model.reference
    for (const {name, value} of model.options) if (held !== name) rows.get(name)?.show(value)
  }
  const choices = () => { select.replaceChildren(...model.methods.map(({name, title}) => new Option(title, name))); update() }
  model.on("methods", choices)
  model.on(["method", "options", "summary", "reference", "heard"], update)
  choices()
  return root
}
