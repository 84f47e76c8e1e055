// Which kind of schedule, what happens outside the blocks, and recipes to begin with. Sends
//   {kind: "kind", name}  {kind: "outside", name}  {kind: "order", value}  {kind: "preset", name}

export function render({model}) {
  const kinds = element("div", {class: "shapes", role: "group", "aria-label": "kind of schedule"})
  const outside = element("select", {"aria-label": "outside the blocks",
    title: "class and position embeddings, patch convolution and ln_pre always get the first block's factor"})
  outside.append(new Option("ln_post, proj as alpha (paper)", "alpha"), new Option("ln_post, proj as the last block", "depth"))
  outside.addEventListener("change", () => model.send_msg({kind: "outside", name: outside.value}))
  const order = element("input", {type: "number", min: 0, step: 1, "aria-label": "seed of the order"})
  order.addEventListener("change", () => model.send_msg({kind: "order", value: order.value === "" ? null : Number(order.value)}))
  order.addEventListener("keydown", (event) => { if (event.key === "Enter") { order.blur(); order.focus() } })
  const seed = element("label", {class: "field"}, element("span", {text: "order"}), order)
  const presets = element("div", {class: "presets", role: "group", "aria-label": "presets"})
  const root = element("div", {class: "panel"}, element("div", {class: "head", text: "Schedule"}), kinds,
    element("div", {class: "more"}, outside, seed), presets)

  function choices() {
    kinds.replaceChildren(...model.kinds.map(({name, title, explanation}) => {
      const button = element("button", {type: "button", text: title, title: explanation, "data-kind": name})
      button.addEventListener("click", () => model.send_msg({kind: "kind", name}))
      return button
    }))
    presets.replaceChildren(...model.presets.map(({name, title, explanation}) => {
      const button = element("button", {type: "button", text: title, title: explanation})
      button.addEventListener("click", () => model.send_msg({kind: "preset", name}))
      return button
    }))
    update()
  }
  function update() {
    for (const button of kinds.children) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === model.chosen))
      button.hidden = button.dataset.kind === "constant" && model.chosen !== "constant"
    }
    outside.hidden = !model.outside; outside.value = model.outside
    seed.hidden = model.order < 0
    order.value = model.order
  }
  model.on(["kinds", "presets"], choices)
  model.on(["chosen", "outside", "order", "heard"], update)
  choices()
  return root
}
