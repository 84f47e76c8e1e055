// The layer all maps show, and their one colour bar.
// Sends {kind: "layer", layer}  {kind: "terms", terms}  {kind: "fitted", on}

const TICKS = 5

export function render({model}) {
  const root = document.createElement("div"); root.className = "colours"
  const layer = document.createElement("select"); layer.setAttribute("aria-label", "layer")
  const terms = document.createElement("button"); terms.type = "button"; terms.className = "terms"
  const fitted = document.createElement("button"); fitted.type = "button"
  fitted.textContent = "fit colours"; fitted.title = "colours from the lowest to the highest number on screen, the same in all maps"
  const bar = document.createElement("div"); bar.className = "bar"
  bar.setAttribute("role", "img")
  const strip = document.createElement("div"); strip.className = "strip"
  const ticks = document.createElement("div"); ticks.className = "ticks"
  bar.append(strip, ticks)
  root.append(layer, terms, fitted, bar)

  layer.addEventListener("change", () => model.send_msg({kind: "layer", layer: layer.value}))
  terms.addEventListener("click", () => model.send_msg({kind: "terms", terms: model.terms === "sum" ? "mean" : "sum"}))
  fitted.addEventListener("click", () => model.send_msg({kind: "fitted", on: !model.fitted}))

  const is_sum = () => model.layer === "error" && model.terms === "sum"
  const written = (x) => is_sum() ? x.toFixed(2) : `${(100 * x).toFixed(model.high - model.low < 0.1 ? 1 : 0)} %`
  function choices() {
    layer.replaceChildren(...model.layers.map(({name, title}) => new Option(title, name)))
    layer.value = model.layer
  }
  function update() {
    layer.value = model.layer
    terms.hidden = model.layer !== "error"
    terms.textContent = is_sum() ? "sum (0 to 2)" : "mean (0 to 1)"
    terms.title = "the two tasks' terms: their mean, or their sum as in the paper's equation"
    fitted.setAttribute("aria-pressed", String(model.fitted))
    strip.style.background = `linear-gradient(to right, ${model.colours.join(", ")})`
    ticks.replaceChildren(...Array.from({length: TICKS}, (_, i) => {
      const tick = document.createElement("span")
      tick.textContent = written(model.low + (model.high - model.low) * i / (TICKS - 1))
      return tick
    }))
    bar.setAttribute("aria-label", `colours from ${written(model.low)} to ${written(model.high)}`)
  }
  model.on("layers", choices)
  model.on(["layer", "terms", "fitted", "colours", "low", "high"], update)
  choices(); update()
  return root
}
