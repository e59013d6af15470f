// One request a line on stdin, one answer a line on stdout, as JSON: {"do": name, ...} calls `does[name]`.
import readline from 'node:readline';

console.log = console.info = console.warn = console.error; // stdout is for answers

// Answers until stdin ends. What is thrown is the answer {"error": text}.
export async function answerLines(does) {
  for await (const line of readline.createInterface({input: process.stdin})) {
    let answer;
    try {
      const request = JSON.parse(line);
      answer = await does[request.do](request);
    } catch (error) {
      answer = {error: String(error?.message ?? error)};
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
}
