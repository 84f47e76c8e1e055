// Presets: each sends {kind: "preset", name, ...choices}; the recipe is made in Python.

function choice(label, first, options) {
  const select = document.createElement("select")
  select.setAttribute("aria-label", label); select.title = label
  const fill = (items) => {
    const head = new Option(first, ""); head.disabled = false
    select.replaceChildren(head, ...items.map(({name, title}) => new Option(title, name)))
  }
  fill(options)
  return {select, fill}
}

function button(text, title) {
  const node = document.createElement("button")
  node.type = "button"; node.textContent = text; node.title = title
  return node
}

export function render({model}) {
  const root = document.createElement("div")
  root.className = "presets"; root.setAttribute("role", "group"); root.setAttribute("aria-label", "presets")
  const send = (name, more = {}) => model.send_msg({kind: "preset", name, ...more})

  const zero = button(model.base, "all coefficients 0: the model nobody edited")
  const add = button("add all", "all task vectors at the best shared coefficient of the model card")
  const search = button("search", "search the best shared coefficient on validation images")
  zero.addEventListener("click", () => send("zero_shot"))
  add.addEventListener("click", () => send("addition"))
  search.addEventListener("click", () => send("search"))

  const single = choice("fine-tuned on one task: its vector at 1, all others at 0", "only…", model.tasks)
  const forget = choice("forget one task: subtract its vector", "forget…", model.tasks)
  for (const [{select}, name] of [[single, "single"], [forget, "forget"]]) {
    select.addEventListener("change", () => {
      if (select.value) send(name, {task: select.value})
      select.value = ""
    })
  }

  const a = choice("analogy: A", "A", model.tasks), b = choice("analogy: plus B", "B", model.tasks)
  const c = choice("analogy: minus C", "C", model.tasks)
  const analogy = document.createElement("div")
  analogy.className = "analogy"; analogy.setAttribute("role", "group"); analogy.setAttribute("aria-label", "analogy")
  const apply = button("apply", "set the recipe to A + B − C")
  apply.disabled = true
  const letters = [a, b, c]
  const ready = () => { apply.disabled = new Set(letters.map(({select}) => select.value).filter(Boolean)).size < 3 }
  letters.forEach(({select}) => select.addEventListener("change", ready))
  apply.addEventListener("click", () => send("analogy", {a: a.select.value, b: b.select.value, c: c.select.value}))
  analogy.append(a.select, "+", b.select, "−", c.select, apply)

  const update = () => {
    add.textContent = model.best === null ? "add all" : `add all × ${model.best.toFixed(2)}`
    search.textContent = model.searching ? "stop search" : "search"
  }
  model.on(["best", "searching"], update)
  model.on("tasks", () => [single, forget, a, b, c].forEach(({fill}) => fill(model.tasks)))
  const line = document.createElement("div")
  line.className = "line"
  line.append(zero, single.select, forget.select)
  const second = document.createElement("div")
  second.className = "line"
  second.append(add, search)
  root.append(line, second, analogy)
  update()
  return root
}
