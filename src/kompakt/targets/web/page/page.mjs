// Loads TF.js and a graph model, runs it and times it. Used by index.html, and by kompakt's own checks.
//
// TF.js comes from a public copy of the npm registry: one version, and each file by its digest, so that what runs is
// what was checked.
const NPM = 'https://cdn.jsdelivr.net/npm/';
const WASM = NPM + '@tensorflow/tfjs-backend-wasm@4.22.0/dist/';
export const SCRIPTS = {
  [NPM + '@tensorflow/tfjs@4.22.0/dist/tf.min.js']:
    'sha384-vE8hbVJ4lezako5rlvE7bY0BVzWlFhZncPlckrqNwcUQpVtgbENTgZ8TBbnPjZre',
  [WASM + 'tf-backend-wasm.min.js']: 'sha384-8zJmraBl5B7v26aoZux6x4HhlWKyW2wD1RVC4LUkQxHS99ATPEvmsTL6D44t0Acv',
};
export const BINARIES = {
  [WASM + 'tfjs-backend-wasm-simd.wasm']: 'sha384-K3GxiUF8sNsf8m8ZYuEKWXFARCxCn0erZqbTdbYOpxeDRf0k+CWFF5gZ3xbW4cez',
  [WASM + 'tfjs-backend-wasm.wasm']: 'sha384-ZwWxXkngOvkV9/jOFE8ZwnuJTftuqBs9dPATM9/5t0SK6UNhYkhiCmKe98UmiVMj',
};
const ARRAYS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array};

function script(src, integrity) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement('script'), {src, integrity, crossOrigin: 'anonymous'});
    element.onload = resolve;
    element.onerror = () => reject(new Error(`cannot load ${src}; is there a network?`));
    document.head.append(element);
  });
}

// TF.js, ready on `backend`: "wasm", "webgl" or "cpu".
export async function ready(backend) {
  if (!globalThis.tf) {
    for (const [src, integrity] of Object.entries(SCRIPTS)) await script(src, integrity);
    const {tf} = globalThis;
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
    const simd = await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT');
    const [url, integrity] = Object.entries(BINARIES)[simd ? 0 : 1];
    const binary = await (await fetch(url, {integrity})).blob();
    const local = URL.createObjectURL(binary);
    tf.wasm.setWasmPaths(Object.fromEntries(
      ['', '-simd', '-threaded-simd'].map(kind => [`tfjs-backend-wasm${kind}.wasm`, local])));
  }
  if (!await globalThis.tf.setBackend(backend)) throw new Error(`this browser has no ${backend}`);
  await globalThis.tf.ready();
  return globalThis.tf;
}

export function numbers({base64, dtype}) {
  const bytes = Uint8Array.from(atob(base64), sign => sign.charCodeAt(0));
  return new ARRAYS[dtype](bytes.buffer);
}

export function base64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

// Loops cannot be run at once, all else is quicker so.
export async function execute(model, inputs, names) {
  try {
    return [model.execute(inputs, names)].flat();
  } catch (error) {
    if (!/executeAsync/.test(error.message)) throw error;
    return [await model.executeAsync(inputs, names)].flat();
  }
}

// {loading, outputs: [{name, shape, values}], times}: milliseconds to load, and of `count` runs after a first one.
export async function run(url, vector, backend, count) {
  const tf = await ready(backend);
  const start = performance.now();
  const model = await tf.loadGraphModel(url);
  const loading = performance.now() - start;
  const feed = Object.fromEntries(
    vector.inputs.map(input => [input.tensor, tf.tensor(numbers(input), input.shape, input.dtype)]));
  const names = vector.outputs.map(output => output.tensor);
  const made = await execute(model, feed, names);
  const outputs = [];
  for (const [i, tensor] of made.entries()) {
    outputs.push({name: vector.outputs[i].name, shape: tensor.shape, dtype: tensor.dtype, values: await tensor.data()});
  }
  tf.dispose(made);
  const times = [];
  for (let i = 0; i < count; i++) {
    const before = performance.now();
    const again = await execute(model, feed, names);
    await Promise.all(again.map(tensor => tensor.data()));
    times.push(performance.now() - before);
    tf.dispose(again);
  }
  tf.dispose(feed);
  model.dispose();
  return {loading, outputs, times};
}

// How far `found` is from `expected`, and whether that is within `tolerance` of the largest expected value.
export function compared(expected, found, tolerance) {
  let most = 0, reach = 0, finite = true;
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Math.abs(expected[i] - found[i]));
    reach = Math.max(reach, Math.abs(expected[i]));
    finite &&= Number.isFinite(found[i]);
  }
  const same = finite && expected.length === found.length && most <= tolerance * Math.max(reach, 1e-6);
  return {most, reach, same};
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
