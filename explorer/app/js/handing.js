// A file that a person hands over: chosen, or dropped. It is sent as
// {kind: "upload" | "reopen", name, data (base64), side}, or with its size alone where it is too large.

const LARGEST = {upload: 8e6, reopen: 14e6}     // bytes, as in opened.py and runs.py

// A saved run is told from a picture by its name.
const kind_of_file = (file) => /\.nc$/i.test(file.name) ? "reopen" : "upload"

function hand_over(model, kind, file, side) {
  const said = {kind, name: file.name, side}
  if (!model.uploads || file.size > LARGEST[kind]) { model.send_msg({...said, size: file.size}); return }
  const reader = new FileReader()
  reader.onload = () => model.send_msg({...said, data: reader.result.split(",")[1] ?? ""})
  reader.readAsDataURL(file)
}

// Files dropped on a node; `side_at` says which side is meant, `mark` shows where it would land.
// A browser that nobody stops opens a dropped file instead of the page.
function take_drops(node, model, side_at, mark) {
  const files = (event) => [...event.dataTransfer?.types ?? []].includes("Files")
  for (const name of ["dragenter", "dragover"]) node.addEventListener(name, (event) => {
    if (files(event)) { event.preventDefault(); mark(side_at(event)) }
  })
  node.addEventListener("dragleave", (event) => { if (!node.contains(event.relatedTarget)) mark(null) })
  node.addEventListener("drop", (event) => {
    if (!files(event)) return
    event.preventDefault(); mark(null)
    const file = event.dataTransfer.files[0]
    if (file) hand_over(model, kind_of_file(file), file, side_at(event))
  })
}
