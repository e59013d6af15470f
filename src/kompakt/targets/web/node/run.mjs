// Runs a TF.js graph model: one request a line on stdin, one answer a line on stdout, as JSON.
//
//   {"do": "operators"}                                       -> {"operators": [...], "versions": {...}}
//   {"do": "load", "folder": path, "backend": "cpu"|"wasm"}   -> {"milliseconds": n}
//   {"do": "run", "inputs": [...], "outputs": [...], "batch": n} -> {"outputs": [{"shape", "dtype"}]}
//   {"do": "time", "count": n}                                -> {"seconds": s}     the first batch of the last run
//
// Tensors are files of raw little-endian numbers: an input is {"name", "file", "shape", "dtype"}, an output {"name",
// "file"}. The packages lie in the folder given as the first argument, which is all that is read but the model.
import {createRequire} from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import {answerLines} from '../lines.mjs';

const packages = process.argv[2];
const require = createRequire(path.join(packages, 'package.json'));
const operatorsIn = path.join(packages, 'node_modules/@tensorflow/tfjs-converter/dist/operations/op_list');
const ARRAYS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array};

const tf = require('@tensorflow/tfjs');
require('@tensorflow/tfjs-backend-wasm');

let model = null;
let last = null; // [inputs of the first batch, names of the outputs]

function operators() {
  const found = new Set();
  for (const name of fs.readdirSync(operatorsIn).filter(name => name.endsWith('.js'))) {
    for (const match of fs.readFileSync(path.join(operatorsIn, name), 'utf8').matchAll(/'tfOpName': '(\w+)'/g)) {
      found.add(match[1]);
    }
  }
  return {operators: [...found].sort(), versions: {tfjs: tf.version['tfjs'], node: process.version}};
}

async function load({folder, backend}) {
  if (!await tf.setBackend(backend)) throw new Error(`TF.js has no backend ${backend} here`);
  await tf.ready();
  model?.dispose();
  last = null;
  const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
  const shards = json.weightsManifest.flatMap(group => group.paths).map(name => fs.readFileSync(path.join(folder, name)));
  const start = performance.now();
  model = await tf.loadGraphModel(tf.io.fromMemory({
    modelTopology: json.modelTopology,
    weightSpecs: json.weightsManifest.flatMap(group => group.weights),
    weightData: shards.map(shard => shard.buffer.slice(shard.byteOffset, shard.byteOffset + shard.byteLength)),
    signature: json.signature,
    userDefinedMetadata: json.userDefinedMetadata,
  }));
  return {milliseconds: performance.now() - start};
}

function read({file, shape, dtype}) {
  const bytes = fs.readFileSync(file);
  const size = shape.reduce((a, b) => a * b, 1);
  return {values: new ARRAYS[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength), 0, size), shape, dtype};
}

// Rows `from` to `to`, filled up to `count` by repeating the last.
function rows({values, shape, dtype}, from, to, count) {
  const size = shape.slice(1).reduce((a, b) => a * b, 1);
  const part = new values.constructor(count * size);
  part.set(values.subarray(from * size, to * size));
  for (let i = to - from; i < count; i++) part.set(values.subarray((to - 1) * size, to * size), i * size);
  return tf.tensor(part, [count, ...shape.slice(1)], dtype);
}

// Loops cannot be run at once, all else is quicker so.
async function execute(inputs, names) {
  try {
    return [model.execute(inputs, names)].flat();
  } catch (error) {
    if (!/executeAsync/.test(error.message)) throw error;
    return [await model.executeAsync(inputs, names)].flat();
  }
}

async function run({inputs, outputs, batch}) {
  const given = inputs.map(read);
  const names = outputs.map(output => output.name);
  const samples = given[0].shape[0];
  const files = outputs.map(output => fs.openSync(output.file, 'w'));
  const step = batch.fixed ?? Math.min(batch.most, samples);
  let shapes = null;
  last?.[0] && tf.dispose(last[0]);
  last = null;
  for (let from = 0; from < samples; from += step) {
    const to = Math.min(from + step, samples);
    const count = batch.fixed ?? to - from;
    const feed = Object.fromEntries(inputs.map((input, i) => [input.name, rows(given[i], from, to, count)]));
    const made = await execute(feed, names);
    shapes = made.map(tensor => ({shape: [samples, ...tensor.shape.slice(1)], dtype: tensor.dtype}));
    for (const [i, tensor] of made.entries()) {
      if (tensor.shape[0] !== count) throw new Error(`output ${i} has ${tensor.shape[0]} rows for ${count} samples`);
      const values = await tensor.data();
      const kept = values.subarray(0, values.length / count * (to - from));
      fs.writeSync(files[i], Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength));
    }
    tf.dispose(made);
    if (last === null) last = [feed, names]; else tf.dispose(feed);
  }
  files.forEach(file => fs.closeSync(file));
  return {outputs: shapes};
}

async function time({count}) {
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    const made = await execute(...last);
    await Promise.all(made.map(tensor => tensor.data()));
    tf.dispose(made);
  }
  return {seconds: (performance.now() - start) / 1000};
}

await answerLines({operators, load, run, time});
