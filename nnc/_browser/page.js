// Page of `nnc demo --browser`. The server computes; the page keeps the network, the data and the losses.

const ENGLISH = {};
const CHINESE = {
  title: "一个小型神经网络", language: "语言", settings: "设置", data: "数据", xor: "异或（教程）", circle: "圆", spiral: "螺旋",
  csv: "CSV 文件的两列", csvFile: "CSV 文件", input0: "横轴输入", input1: "纵轴输入", target: "有两个取值的目标",
  useCsv: "使用这些列", layers: "各隐藏层的神经元数", layersHelp: "最多 4 个 1 到 12 的数，例如 8, 4", activation: "激活函数",
  rate: "学习率", seed: "初始权重的随机种子", reset: "新建网络", train: "训练", stop: "停止", one: "一轮", save: "保存 JSON",
  load: "载入 JSON", boundary: "决策边界", loss: "损失", weights: "网络与权重", steps: "逐步计算一行",
  stepsHelp: "每一行是 explain_step 的一个数，旁边是计算它的纯 Python 参考实现的代码行。方向键可在列表中移动。", row: "行",
  first: "开头", back: "后退", forward: "前进", last: "结尾", failed: "出错：", warned: "警告：", epoch: "轮次", lossNow: "损失", classes: "圆点：{0}，方块：{1}",
  curve: "损失随训练轮数的变化", picture: "网络：蓝线为正权重，橙线为负权重", list: "计算步骤",
};
Object.assign(ENGLISH, {
  stop: "Stop", failed: "Error: ", warned: "Warning: ", epoch: "epoch", lossNow: "loss", classes: "Circles: {0}, squares: {1}",
  curve: "Loss by epoch", picture: "Network: blue lines are positive weights, orange lines are negative weights",
  list: "Steps of the computation",
});
// Words of explain_step and of the drawing in Chinese. All formulas and numbers remain.
const TRANSLATIONS = [
  [/^One step of gradient descent: (\d+) rows?, loss (\w+), lr (.*)$/, "梯度下降的一步：$1 行，损失函数 $2，学习率 $3"],
  [/^Forward: z = sum of input \* weight \+ bias, a = f\(z\)/, "前向传播：z = 输入 * 权重之和 + 偏置，a = f(z)"],
  [/^Loss: L = sum of (.*) over rows and outputs/, "损失：L = $1 对各行和各输出之和"],
  [/^Backward: (.*), from the last layer to the first/, "反向传播：$1，从最后一层到第一层"],
  [/^Gradients and step: dL\/dw = delta \* input/, "梯度与更新：dL/dw = delta * 输入"],
  [/Row (\d+), output (\d+):/, "第 $1 行，输出 $2："], [/Row (\d+): inputs/, "第 $1 行：输入"], [/Row (\d+)/, "第 $1 行"],
  [/rows \* outputs/, "行数 * 输出数"], [/\/ rows/, "/ 行数"], [/Hidden Layer (\d+)/g, "隐藏层 $1"], [/Output Layer/g, "输出层"],
  [/Neuron (\d+)/, "神经元 $1"], [/Weight (\d+)/, "权重 $1"], [/Bias/, "偏置"], [/\(1 if (.*) > 0 else 0\)/, "($1 > 0 时为 1，否则为 0)"],
  [/>Input</g, ">输入<"], [/positive weight</g, "正权重<"], [/negative weight</g, "负权重<"],
];
const NO_SERVER = "the server does not respond";
// Messages of the server in Chinese. The last pattern matches every message.
const MESSAGES = [
  [NO_SERVER, "服务器没有响应"],
  ["layers must be at most (\\d+) numbers from (\\d+) to (\\d+).*", "隐藏层必须是最多 $1 个从 $2 到 $3 的整数"],
  ["seed must be .*", "随机种子必须是不小于 0 的整数"], ["lr must be .*", "学习率必须是正数"],
  ["the loss has risen.*", "损失在上升：请减小学习率"],
  ["all outputs of .* are zero.*", "有一层的输出全部为零：请减小学习率，或换一个随机种子新建网络"],
  [".* of the outputs of .*", "有一层的输出几乎都到了值域的一端，很难继续学习：请减小学习率，或换一个随机种子新建网络"],
  ["all neurons of .*", "有一层的所有神经元权重相同：请用其他初始权重"],
  ["the (scaled )?targets range .*", "目标超出了输出层的值域"],
  [".*(diverge|no longer finite|learning rate|must be finite).*", "训练没有成功：请减小学习率，然后新建网络"],
  ["the CSV file must have a header.*", "CSV 文件必须有表头和至少 2 行，而且各行的列数相同"],
  ["the CSV file must have at most (\\d+) rows, got (\\d+)", "CSV 文件最多可有 $1 行，这个文件有 $2 行"],
  ["the CSV file cannot be read.*", "无法读取这个 CSV 文件"],
  ["column '(.*)' must have numbers.*", "“$1”列的值必须全部是数"],
  ["column '(.*)' must have at least two .*", "“$1”列必须有至少两个不同的有限数"],
  ["column '(.*)' must have 2 different values, got (\\d+).*", "“$1”列必须有 2 个不同的值，这里有 $2 个；请选择另一个目标"],
  ["the network must have (\\d+) inputs.* at most (\\d+) neurons, got ([-\\d]+).*",
    "网络必须有 $1 个输入、一个输出，全连接层最多 $2 个神经元，这个网络是 $3；请先选择它的数据"],
  ["the file must have a NeuralNetwork.*|the network must have a named loss.*|cannot load .*|loss must be .*", "这个文件不是可以在此使用的网络的 JSON"],
  ["the request must have at most (\\d+) bytes", "请求最多可有 $1 字节"], [".*", "服务器不能处理这些值"],
].map(([pattern, words]) => [new RegExp(`^(?:${pattern})$`, "s"), words]);
const $ = (id) => document.getElementById(id);
const state = {
  data: null, network: "", view: null, losses: [], lines: [], step: 0, training: false, language: "en", csv: "", kind: "failed",
  messages: [],
};

const word = (key) => (state.language === "zh" ? CHINESE : ENGLISH)[key];
const translated = (text) => state.language === "en" ? text
  : TRANSLATIONS.reduce((result, [pattern, words]) => result.replace(pattern, words), text);

async function request(name, values) {
  let response;
  try {
    response = await fetch(`/api/${name}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values),
    });
  } catch {
    throw new Error(NO_SERVER);
  }
  const result = await response.json().catch(() => ({ error: NO_SERVER }));
  if (!response.ok) throw new Error(result.error);
  return result;
}

// Show messages of the server; their kind is "failed" or "warned".
function show(kind, messages) {
  Object.assign(state, { kind, messages });
  const texts = messages.map((message) => {
    const [pattern, words] = MESSAGES.find(([each]) => each.test(message));
    return word(kind) + (state.language === "zh" ? message.replace(pattern, words) : message);
  });
  $("error").textContent = texts.join(" ");
}

// Run an action of the user; show its error, and stop the training.
async function run(action) {
  try {
    show("failed", []);
    await action();
  } catch (error) {
    stop();
    show("failed", [error.message]);
  }
}

const rate = () => Number($("rate").value);
const row = () => Math.max(0, Math.floor(Number($("row").value)) || 0);
const rows = () => ({ X: state.data.X, y: state.data.y });

async function setData(data, suggestion) {
  state.data = data;
  $("row").max = data.X.length - 1;
  $("row").value = Math.min(row(), data.X.length - 1);
  if (suggestion) [$("hidden").value, $("activation").value, $("rate").value] = suggestion;
  await create();
}

async function create() {
  stop();
  const hidden = $("hidden").value.split(/[\s,，]+/).filter(Boolean).map(Number);
  const values = { ...rows(), hidden, activation: $("activation").value, seed: Number($("seed").value) };
  state.losses = [];
  await update(await request("create", values));
}

async function update(view) {
  state.network = view.network;
  state.view = view;
  draw();
  if (!state.training) await explain();
}

async function explain() {
  const values = { network: state.network, ...rows(), row: row(), lr: rate() };
  state.lines = (await request("explain", values)).lines;
  state.step = Math.min(state.step, state.lines.length - 1);
  drawLines();
}

async function trainEpochs(epochs) {
  const view = await request("train", { network: state.network, ...rows(), epochs, lr: rate(), row: row() });
  state.losses.push(...view.losses);
  show("warned", view.warnings);
  await update(view);
}

function stop() {
  state.training = false;
  $("train").textContent = word("train");
  $("train").setAttribute("aria-pressed", "false");
}

// Train until the user stops; later requests have more epochs, so that the beginning is visible.
async function train() {
  if (state.training) {
    stop();
    return explain();
  }
  state.training = true;
  $("train").textContent = word("stop");
  $("train").setAttribute("aria-pressed", "true");
  while (state.training) {
    await trainEpochs(Math.min(500, 10 + Math.floor(state.losses.length / 20)));
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  return explain();
}

function draw() {
  drawBoundary();
  drawLoss();
  const svg = translated(state.view.svg);
  $("network").src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
  $("network").alt = word("picture");
}

function drawBoundary() {
  const canvas = $("boundary"), context = canvas.getContext("2d"), size = canvas.width;
  const style = getComputedStyle(document.documentElement);
  const [one, zero, ground, ink] = ["--one", "--zero", "--ground", "--text"].map((name) => style.getPropertyValue(name));
  const n = Math.sqrt(state.view.grid.length), cell = size / n;
  context.fillStyle = ground;
  context.fillRect(0, 0, size, size);
  state.view.grid.forEach((p, i) => {
    context.fillStyle = `rgba(${p < 0.5 ? zero : one}, ${0.1 + Math.min(1, Math.abs(2 * p - 1)) * 0.5})`;
    context.fillRect((i % n) * cell, size - cell * (1 + Math.floor(i / n)), cell, cell);
  });
  const [[left, right], [bottom, top]] = state.view.bounds;
  state.data.X.forEach((x, i) => {
    const isOne = state.data.y[i][0] > 0.5, r = state.data.X.length < 10 ? 8 : 4;
    const u = (x[0] - left) / (right - left) * size, v = size - (x[1] - bottom) / (top - bottom) * size;
    context.beginPath();
    if (isOne) context.rect(u - r, v - r, 2 * r, 2 * r);
    else context.arc(u, v, r, 0, 7);
    context.fillStyle = `rgb(${isOne ? one : zero})`;
    context.strokeStyle = ink;
    context.lineWidth = i === row() ? 3 : 1;
    context.fill();
    context.stroke();
  });
  const [a, b] = state.data.classes;
  $("legend").textContent = `${state.data.names.join(", ")}. ` + word("classes").replace("{0}", a).replace("{1}", b);
  canvas.setAttribute("aria-label", $("legend").textContent);
}

function drawLoss() {
  const losses = [...state.losses, state.view.loss], highest = Math.max(...losses.slice(-1), ...sampled(losses), 1e-12);
  const points = sampled(losses), width = 320 / Math.max(1, points.length - 1);
  document.querySelector("#curve polyline").setAttribute(
    "points", points.map((loss, i) => `${(i * width).toFixed(1)},${(158 - 154 * loss / highest).toFixed(1)}`).join(" "));
  $("curve").setAttribute("aria-label", word("curve"));
  $("status").textContent = `${word("epoch")} ${state.losses.length}, ${word("lossNow")} ${state.view.loss.toPrecision(6)}`;
  $("axis").textContent = `0 … ${highest.toPrecision(3)}; ${word("epoch")} 0 … ${state.losses.length}`;
}

// At most about 300 of the losses, with the first and the last one.
function sampled(losses) {
  const step = Math.ceil(losses.length / 300);
  return losses.filter((_, i) => i % step === 0 || i === losses.length - 1);
}

function drawLines() {
  $("lines").firstElementChild.replaceChildren(...state.lines.map(({ text, code }) => {
    const item = document.createElement("li");
    for (const [name, content] of [[/^\S/.test(text) ? "title" : "text", translated(text)], ["code", code]]) {
      const span = document.createElement("span");
      span.className = name;
      span.textContent = content;
      item.append(span);
    }
    return item;
  }));
  $("lines").setAttribute("aria-label", word("list"));
  mark();
}

function mark() {
  const items = $("lines").firstElementChild.children;
  [...items].forEach((item, i) => { item.className = i === state.step ? "now" : i > state.step ? "later" : ""; });
  const item = items[state.step];
  $("lines").scrollTop = item.offsetTop - $("lines").offsetTop - $("lines").clientHeight / 3;
  $("current").textContent = `${state.step + 1} / ${items.length}: ${item.firstElementChild.textContent.trim()}`;
}

function move(step) {
  state.step = Math.max(0, Math.min(state.lines.length - 1, step));
  mark();
}

function setLanguage(language) {
  state.language = language;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.querySelectorAll("[data-text]").forEach((element) => {
    ENGLISH[element.dataset.text] ??= element.textContent;
    element.textContent = word(element.dataset.text);
  });
  document.title = `nnc: ${word("title")}`;
  show(state.kind, state.messages);
  if (state.training) $("train").textContent = word("stop");
  if (state.view) {
    draw();
    drawLines();
  }
}

async function chooseData() {
  const name = $("data").value;
  $("csv").hidden = name !== "csv";
  const suggestions = { xor: ["4", "sigmoid", 1], circle: ["6", "tanh", 1], spiral: ["10, 10", "tanh", 1] };
  if (name !== "csv") await setData(await request("data", { name }), suggestions[name]);
}

async function readCsv() {
  // The user can close the dialog without a file.
  if (!$("csv-file").files.length) return;
  state.csv = await $("csv-file").files[0].text();
  const { columns } = await request("csv", { text: state.csv, inputs: [], target: "" });
  ["input0", "input1", "target"].forEach((id, i) => {
    $(id).replaceChildren(...columns.map((name) => new Option(name, name)));
    $(id).selectedIndex = id === "target" ? columns.length - 1 : Math.min(i, columns.length - 1);
  });
  $("use-csv").disabled = false;
}

async function useCsv() {
  const inputs = [$("input0").value, $("input1").value];
  await setData(await request("csv", { text: state.csv, inputs, target: $("target").value }), ["6", "tanh", 1]);
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([state.network], { type: "application/json" }));
  link.download = "network.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function load() {
  // The user can close the dialog without a file.
  if (!$("load").files.length) return;
  stop();
  const network = await $("load").files[0].text();
  $("load").value = "";
  const view = await request("show", { network, ...rows(), row: row() });
  $("hidden").value = view.hidden.join(", ");
  state.losses = [];
  await update(view);
}

const actions = {
  data: chooseData, "csv-file": readCsv, hidden: create, activation: create, seed: create, load,
  rate: explain, row: async () => { draw(); await update(await request("show", { network: state.network, ...rows(), row: row() })); },
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("change", () => run(action));
const clicks = {
  "use-csv": useCsv, reset: create, train, one: () => { stop(); return trainEpochs(1); }, save,
  first: () => move(0), back: () => move(state.step - 1), forward: () => move(state.step + 1), last: () => move(Infinity),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => run(action));
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("lines").addEventListener("keydown", (event) => {
  const steps = { ArrowDown: state.step + 1, ArrowRight: state.step + 1, ArrowUp: state.step - 1, ArrowLeft: state.step - 1,
    Home: 0, End: Infinity };
  if (event.key in steps) {
    event.preventDefault();
    move(steps[event.key]);
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.view && draw());
$("language").addEventListener("change", () => setLanguage($("language").value));
$("language").value = navigator.language.startsWith("zh") ? "zh" : "en";
setLanguage("en");
setLanguage($("language").value);
run(chooseData);
