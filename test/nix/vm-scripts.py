"""Reads {name: script} as JSON and says what is wrong with each: it does not parse, or uses a name that is nowhere.

Tests of NixOS are checked like this when they are built.
"""
import ast
import builtins
import json
import sys

# What NixOS's test driver has, of what is used.
driver = {"machine"}


def complaints(script):
    try:
        tree = ast.parse(script)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    known = driver | set(dir(builtins))
    known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return [f"line {node.lineno}: {node.id} is not defined" for node in names if node.id not in known]


scripts = json.load(sys.stdin)
json.dump({name: found for name, script in scripts.items() if (found := complaints(script))}, sys.stdout)
