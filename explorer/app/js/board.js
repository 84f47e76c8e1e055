// Methods against tasks: a table that fills in, is sorted by its heads, and opens a row's recipe.
// Sends {kind: "open", row} and {kind: "save", what}.

export function render({model}) {
  let by = null, down = true
  const head = element("tr"), body = element("tbody")
  const table = element("table", {}, element("thead", {}, head), body)
  const scroll = element("div", {class: "scroll"}, table)
  const saves = element("span", {class: "saves"})
  const note = element("span", {class: "note"})
  const root = element("div", {class: "board"}, scroll, element("div", {class: "foot"}, note, saves))

  const written = (column, value) => value === null || value === undefined ? "" : column.kind === "text" ? value
    : column.kind === "seconds" ? value.toFixed(value < 10 ? 1 : 0) : (100 * value).toFixed(1)

  function heads() {
    head.replaceChildren(...model.columns.map((column) => {
      const button = element("button", {type: "button", text: column.title, title: column.explanation ?? `sort by ${column.title}`})
      button.addEventListener("click", () => {
        down = by === column.name ? !down : column.kind !== "text"
        by = column.name; update()
      })
      const sorted = by === column.name ? (down ? "descending" : "ascending") : "none"
      const cell = element("th", {scope: "col", "aria-sort": sorted, class: column.kind ?? ""}, button)
      if (by === column.name) button.append(element("span", {text: down ? " ▾" : " ▴", "aria-hidden": "true"}))
      return cell
    }))
  }
  function update() {
    heads()
    root.hidden = !model.rows.length
    const rows = [...model.rows]
    if (by !== null) rows.sort((a, b) => {
      const [x, y] = [a.values[by], b.values[by]]
      if (x === null || y === null) return (x === null) - (y === null)
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1)
    })
    body.replaceChildren(...rows.map((row) => {
      const cells = model.columns.map((column) => {
        const cell = element(column === model.columns[0] ? "th" : "td", {class: column.kind ?? "", text: written(column, row.values[column.name])})
        if (column.kind === "mean" && row.mark) cell.append(element("span", {class: `mark ${row.mark}`, text: {best: " ★", better: " ▲", worse: " ▼", same: " ≈"}[row.mark], title: row.says ?? ""}))
        return cell
      })
      const line = element("tr", {tabindex: 0, title: "open this recipe", "data-row": row.index, class: row.index === model.open ? "open" : ""}, ...cells)
      const open = () => model.send_msg({kind: "open", row: row.index})
      line.addEventListener("click", open)
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); open() } })
      return line
    }))
    note.textContent = model.note
  }
  saves.append(...model.saves.map(([what, title]) => {
    const button = element("button", {type: "button", text: title})
    button.addEventListener("click", () => model.send_msg({kind: "save", what}))
    return button
  }))
  model.on(["columns", "rows", "note", "open"], update)
  update()
  return root
}
