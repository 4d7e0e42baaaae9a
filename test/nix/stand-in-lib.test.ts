/**
 * The stand-in for nixpkgs' library, on which the Nix tests rest where there is no nixpkgs. If it made another unit for
 * a host, or let a mistake pass, those tests would be worth nothing.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, project } from "./evaluation.ts";
import { hosts, rendered, store } from "./hosts.ts";
import { findNixpkgs, standInNixpkgs } from "./nixpkgs.ts";
import { nix } from "./programs.ts";
import { files } from "./text.ts";

/** Without nixpkgs every other test here would fail for a name that the stand-in has not. */
needs("nix").test("the stand-in has every library function that the modules use", () => {
  const texts = files
    .filter((file) =>
      /^nix\/(?:lib|modules|tests)\/|^nix\/(?:home-manager|outputs)\.nix$|^test\/nix\/stand-in\/[a-z-]+\.nix$/.test(
        file,
      ),
    )
    .map((file) => readFileSync(join(project, file), "utf8").replaceAll(/^\s*#.*$/gm, ""));
  const used = new Set(
    texts.flatMap((text) =>
      [...text.matchAll(/\blib\.((?:types\.|strings\.)?[a-zA-Z]+'?)/g)].map(([, name = ""]) => name),
    ),
  );
  for (const text of texts)
    for (const [, from = "", names = ""] of text.matchAll(/inherit \(lib(\.types)?\)([^;]*);/g))
      for (const name of names.trim().split(/\s+/)) used.add(`${from === "" ? "" : "types."}${name}`);
  expect(used.size).toBeGreaterThan(60);
  // What only callers of these modules have: a flake's outputs, a whole nixpkgs.
  const others = ["nix", "secrets", "contract", "nixosSystem"];
  const wanted = [...used].filter((name) => !others.includes(name));
  const has = wanted.map((name) => `(lib ? ${name})`).join(" ");
  const answers = new Evaluation(nix, standInNixpkgs).value(`[ ${has} ]`) as boolean[];
  expect(wanted.filter((_, index) => answers[index] !== true)).toEqual([]);
});

needs("nix", "nixpkgs-lib").describe("the stand-in for nixpkgs' library", () => {
  const theirs = new Evaluation(nix, findNixpkgs());
  const ours = new Evaluation(nix, standInNixpkgs);

  test.each(Object.entries(hosts))("makes the same units and files of %s", (_, modules) => {
    expect(rendered(ours, modules)).toEqual(rendered(theirs, modules));
  });

  test.each([
    ["an unknown option", `secretsStore.volt.url = "x";`, "secretsStore.volt"],
    ["one within a set", `secretsStore.vault.tls.ca = "/x";`, "secretsStore.vault.tls.ca"],
    ["a value of another type", `secretsStore.vault.kvVersion = "2";`, "secretsStore.vault.kvVersion"],
    ["null where there can be none", `secretsStore.vault.url = null;`, "secretsStore.vault.url"],
    ["two values", `imports = [ { secretsStore.vault.mount = "a"; } { secretsStore.vault.mount = "b"; } ];`, "mount"],
    ["a missing value", `secretsStore.services.a.secrets.x = { };`, "`backend' was accessed but has no value"],
    ["a read-only option", `secretsStore.services.a.secrets.x.path = "/x";`, "secretsStore.services.a.secrets.x.path"],
    ["an empty list", `secretsStore.command.command = [ ];`, "secretsStore.command.command"],
    ["an invalid condition", `secretsStore.vault.url = lib.mkIf "yes" "x";`, "Boolean"],
  ])("refuses %s, and names the option", (_, wrong, named) => {
    const module = `({ lib, ... }: { config = { ${store} }; imports = [ { ${wrong} } ]; })`;
    // All of them are looked at, not only those that a unit is made of.
    const all = `builtins.toJSON (removeAttrs (host [ (nix + "/modules/secrets-store.nix") ${module} ]).config.secretsStore [ "package" ])`;
    for (const evaluation of [theirs, ours])
      expect(() => {
        evaluation.value(all);
        evaluation.units(module);
      }).toThrow(named);
  });

  test.each([
    `map lib.trim [ "" " " " a b\\n" "a" "\\n a\\n b " ]`,
    `map (lib.splitString ".") [ "" "a" "a.b" ".a..b." ]`,
    `lib.splitString " " " a  b"`,
    `map (lib.versionOlder "1.4.5") [ "1.4.5" "1.4.10" "1.3" "2" ]`,
    `map (lib.versionAtLeast "1.4.5") [ "1.4.5" "1.4.10" "1.3" "2" ]`,
    `map lib.strings.sanitizeDerivationName [ "a b.ini" "..a" "" "ä" "a@b" ]`,
    `map (lib.hasInfix ".") [ "" "." "a" "a.b" ]`,
    `map (lib.removeSuffix ".x") [ "" ".x" "a.x" "a.x.y" ]`,
    `map (lib.removePrefix "a/") [ "" "a/" "a/b" "b/a/" ]`,
    `map lib.escapeShellArg [ "" "a" "a b" "it's" "$x" "/a-b_c.d,e:f@g%h+i" ]`,
    `lib.subtractLists [ 1 3 ] [ 1 2 3 4 ]`,
    `[ (lib.range 1 3) (lib.range 1 1) (lib.range 1 0) ]`,
    `[ (lib.unique [ 1 2 1 3 2 ]) (lib.remove 1 [ 1 2 1 ]) (lib.intersectLists [ 3 1 ] [ 1 2 3 ]) ]`,
    `lib.zipListsWith (a: b: a + b) [ 1 2 3 ] [ 10 20 ]`,
    `lib.recursiveUpdate { a = { b = 1; c = 2; }; d = { }; } { a = { b = 3; }; d = 4; }`,
    `lib.concatMapAttrs (name: value: { \${name} = value; "\${name}2" = value; }) { a = 1; b = 2; }`,
    `[ (lib.findFirst (x: x > 1) 0 [ 1 2 3 ]) (lib.findFirst (x: x > 9) 0 [ 1 ]) (lib.count (x: x == 1) [ 1 2 1 ]) ]`,
  ])("answers %s alike", (expression) => {
    expect(ours.value(expression)).toEqual(theirs.value(expression));
  });

  test.each([
    `{ options.o = lib.mkOption { type = lib.types.lines; }; config.o = lib.mkMerge [ "b" (lib.mkBefore "a") (lib.mkAfter "d") "c" ]; }`,
    `{ options.o = lib.mkOption { type = lib.types.listOf lib.types.int or lib.types.number; default = [ 1 ]; }; imports = [ { o = [ 2 ]; } ]; config.o = [ 3 ]; }`,
    `{ options.o = lib.mkOption { type = lib.types.attrsOf lib.types.str; }; config.o = { a = lib.mkIf false "x"; b = lib.mkDefault "x"; }; imports = [ { o.b = "y"; } ]; }`,
    `{ options.o = lib.mkOption { type = lib.types.nullOr (lib.types.enum [ 1 "a" ]); default = null; apply = value: [ value ]; }; }`,
    `{ options.o = lib.mkOption { type = lib.types.anything; default = { }; }; config.o = { a.b = 1; }; imports = [ { o.a.c = [ 2 ]; } ]; }`,
    `{ options.o = lib.mkOption { type = lib.types.attrsOf (lib.types.submodule ({ name, config, ... }: {
         freeformType = lib.types.attrsOf lib.types.number;
         options.n = lib.mkOption { default = "\${name}-\${toString config.free}"; }; })); };
       config.o = { a.free = 1; b = { free = 2; n = "b"; }; }; }`,
    `{ options.o = lib.mkOption { type = lib.types.coercedTo lib.types.bool toString (lib.types.either lib.types.str lib.types.number); }; config.o = true; }`,
    `({ config, options, given, ... }: { options.o = lib.mkOption { default = { }; }; options.p = lib.mkOption { type = lib.types.str; };
       config = { _module.args.given = "x"; o = { inherit given; isDefined = options.p.isDefined; }; }; })`,
  ])("merges %s alike", (module) => {
    const value = `(lib.evalModules { modules = [ (${module}) ]; }).config.o`;
    expect(ours.value(value)).toEqual(theirs.value(value));
  });
});
