// The recipe's sliders: one row a task, one row for all. Sends messages, never sets parameters:
//   {kind: "set", task | null, value, done, seq}   {kind: "toggle" | "solo" | "reset" | "focus", task}
// Text arrives as data and is written with textContent only, since names may come from files.

// Positions of a drag that may be unanswered, and milliseconds after which no answer is waited for.
// A busy server then gets fewer of them, not a row of old ones that it would work off in turn.
const IN_FLIGHT = 2
const ANSWER_WITHIN = 1500

const format = (x) => (Object.is(x, -0) ? 0 : x).toFixed(2)

function fill(range) {
  const low = Number(range.min), high = Number(range.max), value = Number(range.value)
  const at = (x) => `${(100 * (Math.min(high, Math.max(low, x)) - low)) / (high - low)}%`
  range.style.setProperty("--zero", at(0))
  range.style.setProperty("--from", at(Math.min(0, value)))
  range.style.setProperty("--to", at(Math.max(0, value)))
}

function slider(label, describe) {
  const range = element("input", {type: "range", "aria-label": label, title: describe})
  const number = element("input", {type: "number", "aria-label": `${label}, exact value`})
  return {range, number}
}

export function render({model}) {
  let seq = 0          // last message sent
  let held = null      // the row under the pointer: the server's echo must not move it
  let queued = null, frame = 0, waiting = 0
  const rows = new Map()

  const view = Math.random().toString(36).slice(2)   // the same lens may be on screen twice
  let sent = 0         // when
  const send = (message) => { sent = performance.now(); model.send_msg({...message, view, seq: ++seq}) }
  const flush = () => {
    frame = 0
    if (!queued) return
    const late = sent + ANSWER_WITHIN - performance.now()
    if (seq - (model.heard[view] ?? 0) >= IN_FLIGHT && late > 0) {
      clearTimeout(waiting); waiting = setTimeout(flush, late)
    } else { send(queued); queued = null }
  }
  const soon = (message) => {     // a drag gives more events than screens have pictures
    queued = message
    if (!frame) frame = requestAnimationFrame(flush)
  }

  function wire(task, {range, number}) {
    let typing = false              // what Python says must not overwrite what a person types
    const show = (value) => {
      range.value = value; fill(range)
      if (!typing) number.value = format(value)
    }
    number.addEventListener("input", () => { typing = true })
    for (const name of ["change", "blur"]) number.addEventListener(name, () => { typing = false })
    range.addEventListener("pointerdown", () => { held = task ?? "*" })
    const release = () => { held = null }
    for (const name of ["pointerup", "pointercancel", "blur"]) range.addEventListener(name, release)
    range.addEventListener("input", () => {
      number.value = format(Number(range.value)); fill(range)
      soon({kind: "set", task, value: Number(range.value), done: false})
    })
    range.addEventListener("change", () => {
      cancelAnimationFrame(frame); frame = 0; queued = null; release()
      send({kind: "set", task, value: Number(range.value), done: true})
    })
    range.addEventListener("dblclick", () => { show(0); send({kind: "reset", task}) })
    number.addEventListener("change", () => {
      const value = number.value === "" ? 0 : Number(number.value)
      send({kind: "set", task, value, done: true})
    })
    // Leaving the field is what makes the browser report a change; in a cell Enter alone does not.
    number.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { number.blur(); number.focus() }
    })
    return {range, number, show}
  }

  function task_row({name, title}) {
    const toggle = element("input", {type: "checkbox", role: "switch", "aria-label": `${title} on`,
      title: "switch this task vector on or off"})
    const label = element("button", {type: "button", class: "name", text: title, title: "show this task's images"})
    const parts = slider(title, `coefficient of the ${title} task vector; double click: back to 0`)
    const solo = element("button", {type: "button", class: "solo", text: "S", "aria-label": `solo ${title}`,
      title: "solo: this task vector alone", "aria-pressed": "false"})
    toggle.addEventListener("change", () => send({kind: "toggle", task: name, on: toggle.checked}))
    label.addEventListener("click", () => send({kind: "focus", task: name}))
    solo.addEventListener("click", () => send({kind: "solo", task: name}))
    const row = element("div", {class: "row", "data-task": name, role: "group", "aria-label": title},
      toggle, label, parts.range, parts.number, solo)
    rows.set(name, {row, toggle, label, solo, ...wire(name, parts)})
    return row
  }

  const shared = slider("all tasks", "one coefficient for all task vectors; double click: all back to 0")
  const all = wire(null, shared)
  const scale = element("div", {class: "scale", "aria-hidden": "true"})
  const body = element("div", {class: "rows"})
  const root = element("div", {class: model.plain ? "mixer plain" : "mixer"},
    element("div", {class: "row all", role: "group", "aria-label": "all tasks"},
      element("span", {class: "name", text: "all tasks"}), shared.range, shared.number),
    element("div", {class: "row ruler"}, scale), body)

  function build() {
    rows.clear()
    body.replaceChildren(...model.tasks.map(task_row))
    limit()
  }
  function limit() {
    const limits = {min: model.low, max: model.high, step: model.step}
    for (const {range, number} of [all, ...rows.values()])
      for (const field of [range, number])
        for (const [key, value] of Object.entries(limits)) field.setAttribute(key, value)
    const reach = model.high - model.low, parts = Number.isInteger(reach) && reach < 6 ? reach : 3
    const marks = Array.from({length: parts + 1}, (_, i) => Math.round(100 * (model.low + reach * i / parts)) / 100)
    scale.replaceChildren(...marks.map((x) => element("span", {text: String(x).replace("-", "−")})))
    update()
  }
  function update() {
    if ((model.heard[view] ?? 0) < seq) return   // an older echo: a newer message is on its way
    for (const [name, row] of rows) {
      const off = model.muted.includes(name)
      const value = model.values[name] ?? 0
      if (held !== name) row.show(value)
      row.toggle.checked = !off
      row.row.classList.toggle("off", off)
      row.row.classList.toggle("focus", model.focus === name)
      row.row.classList.toggle("zero", value === 0)
      row.label.setAttribute("aria-pressed", String(model.focus === name))
      row.solo.setAttribute("aria-pressed", String(model.solo === name))
    }
    if (held !== "*") all.show(model.shared)
  }

  model.on("tasks", build)
  model.on(["low", "high", "step"], limit)
  model.on("heard", () => { if (!frame) flush() })
  model.on(["values", "muted", "focus", "solo", "shared", "heard"], update)
  model.on("remove", () => clearTimeout(waiting))
  build()
  return root
}
