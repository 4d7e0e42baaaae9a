/** systemd runs this as its generator. The build makes a separate bundle of it, with a copy of all that it needs. */
import { ExitCode } from "../contract/errors.ts";
import { endProcess } from "../runtime/end.ts";
import { generateUnits } from "./units.ts";

const isUser = [process.argv0, process.argv[1] ?? ""].some((path) => /\/user-generators\/[^/]*$/.test(path));
let exitCode: ExitCode = ExitCode.bug;
try {
  exitCode = generateUnits(process.argv.slice(2), isUser);
} finally {
  endProcess(exitCode);
}
