/**
 * What the program can say, read from its source: the text of each error and each line of the log, `…` for what
 * differs.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import type { BackendErrorKind } from "../../src/contract/backend.ts";

export interface Message {
  /** `…: no such file`. */
  readonly text: string;
  /** Its kind for an operator: `config`, `usage`, `unavailable`, `denied`, …, or a level of the log. */
  readonly kind: string;
  /** Below the project. */
  readonly file: string;
}

/** @param root of the project. */
export function messagesIn(root: string): Message[] {
  const files = ["src", "backends"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => `${folder}/${name}`),
  );
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  return [
    ...files.sort().flatMap((file) => messagesOf(file, read(file))),
    ...["with-secrets", "fetcher-secrets"].flatMap((name) =>
      shellMessages(`src/service-side/${name}.sh`, read(`src/service-side/${name}.sh`)),
    ),
  ];
}

const kinds: Readonly<Record<string, string>> = {
  64: "usage",
  66: "missing",
  73: "cannotCreate",
  77: "denied",
  78: "config",
};

/** The messages of a script: `fail 78 "…"`, which may continue on the next line. */
function shellMessages(file: string, source: string): Message[] {
  const calls = source.replaceAll("\\\n", "").matchAll(/fail (\d+) ((?:\s*(?:'[^']*'|"[^"]*"))+)/g);
  return Array.from(calls, ([, status = "", words = ""]) => {
    const strings = Array.from(words.matchAll(/'([^']*)'|"([^"]*)"/g), ([, single, double]) => single ?? double ?? "");
    const text = strings.join(" ").replaceAll(/\$\{[^}]*\}|\$\([^)]*\)|\$\w+|\$[*@]/g, "…");
    return { text, kind: kinds[status] ?? "any", file };
  });
}

export function messagesOf(file: string, source: string): Message[] {
  const found: Message[] = [];
  const visit = (node: ts.Node): void => {
    const isCall = ts.isNewExpression(node) || ts.isCallExpression(node);
    const call = isCall ? said(node) : (inTable(node) ?? (isWords(file) ? returned(node) : undefined));
    for (const text of textsOf(call?.message))
      if (call !== undefined && /\p{L} \S|\S \p{L}/u.test(text)) found.push({ text, kind: call.kind, file });
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true));
  return found;
}

interface Said {
  readonly kind: string;
  readonly message: ts.Expression | undefined;
}

/** @returns undefined where this call says nothing. */
function said(node: ts.NewExpression | ts.CallExpression): Said | undefined {
  const name = node.expression.getText();
  const args = node.arguments ?? ts.factory.createNodeArray<ts.Expression>();
  const [first, second] = args;
  if (ts.isNewExpression(node))
    switch (name) {
      case "BackendError":
        return { kind: word(first), message: second };
      case "ConfigError":
        return { kind: "config", message: second };
      case "UsageError":
        return { kind: "usage", message: first };
      case "PublishError":
      case "FatalError":
        return { kind: first?.getText().replace("ExitCode.", "") ?? "", message: second };
      default:
        return undefined;
    }
  const [, level] = /(?:^|\.)#?log\.(error|warn|notice|info|debug|trace)$/.exec(name) ?? [];
  if (level !== undefined) return { kind: level, message: first };
  if (/(?:^|\.)#?log$/.test(name)) return { kind: word(first), message: second };
  if (name === "super" && storeKinds.includes(word(first))) return { kind: word(first), message: second };
  if (name === "unreadable") return { kind: "unreadable", message: first };
  // A call of a schema: the message is its last argument.
  if (/^v\.\w+$/.test(name) && name !== "v.literal") return { kind: "config", message: args.at(-1) };
  return undefined;
}

const storeKinds: readonly string[] = ["unavailable", "denied", "invalid"] satisfies BackendErrorKind[];

/**
 * Words with their kind, which a function or a table of errors returns; where a backend looked for a secret; the words
 * of an errno.
 */
function inTable(node: ts.Node): Said | undefined {
  if (ts.isArrayLiteralExpression(node)) {
    const [kind, message] = node.elements;
    return kind !== undefined && storeKinds.includes(word(kind)) ? { kind: word(kind), message } : undefined;
  }
  if (!ts.isPropertyAssignment(node)) return undefined;
  const name = node.name.getText();
  if (name === "where") return { kind: "missing", message: node.initializer };
  return /^E[A-Z_]{3,}$/.test(name) ? { kind: "part", message: node.initializer } : undefined;
}

/** Whether functions in this file return parts of messages. */
function isWords(file: string): boolean {
  return /^(backends|src\/(engine|systemd|output))\//.test(file);
}

function returned(node: ts.Node): Said | undefined {
  if (ts.isReturnStatement(node)) return { kind: "part", message: node.expression };
  if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) return { kind: "part", message: node.body };
  return undefined;
}

/** @returns a word as it is; "any" for several. */
function word(node: ts.Expression | undefined): string {
  const [only, ...others] = node === undefined ? [] : stringsOf(node);
  return only !== undefined && others.length === 0 ? only : "any";
}

function textsOf(node: ts.Expression | undefined): string[] {
  return node === undefined ? [] : stringsOf(node).map((text) => text.replaceAll(/\s+/g, " ").trim());
}

function stringsOf(node: ts.Expression): string[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node))
    return [node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join("")];
  if (ts.isConditionalExpression(node)) return [...stringsOf(node.whenTrue), ...stringsOf(node.whenFalse)];
  if (ts.isParenthesizedExpression(node) || ts.isAsExpression(node)) return stringsOf(node.expression);
  if (ts.isIdentifier(node)) return constantsOf(node).flatMap(stringsOf);
  if (ts.isBinaryExpression(node)) {
    const [left, right] = [stringsOf(node.left), stringsOf(node.right)];
    if (node.operatorToken.kind !== ts.SyntaxKind.PlusToken) return [...left, ...right];
    return [`${left[0] ?? "…"}${right[0] ?? "…"}`];
  }
  return [];
}

/** @returns the value of a `const` of this name in the nearest block that has one. */
function constantsOf({ text, parent }: ts.Identifier): ts.Expression[] {
  for (let at: ts.Node = parent; !ts.isSourceFile(at); at = at.parent) {
    if (!ts.isBlock(at)) continue;
    const declarations = at.statements.flatMap((statement) =>
      ts.isVariableStatement(statement) ? statement.declarationList.declarations : [],
    );
    const values = declarations.flatMap(({ name, initializer }) =>
      initializer !== undefined && name.getText() === text ? [initializer] : [],
    );
    if (values.length > 0) return values;
  }
  return [];
}
