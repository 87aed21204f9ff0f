"""sentence-transformers, in a process of the Python that has it: `embedding_peers.py --worker` encodes when it is told to."""
import json
import pathlib
import subprocess

from .processes import ROOT, shown


class SentenceTransformers:
    name = "sentence-transformers"

    def __init__(self, python, model, threads):
        command = [python, ROOT / "bench" / "embedding_peers.py", "--model", model, "--threads", threads, "--worker"]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.commands = {"embeddings": shown(command)}
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"{pathlib.Path(python).name}: no sentence-transformers there, or no model")
        self.sentences = json.loads(line)

    def lacks(self, work):
        return None if work.kind == "embeddings" else "has no such work"

    def stages(self, work):
        return [[{"batch": 32}, {"batch": 128}]]

    def sample(self, work, model, setting, light=False):
        self.process.stdin.write(f"{setting['batch']}\n")
        self.process.stdin.flush()
        return {"rate": len(self.sentences) / float(self.process.stdout.readline())}

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
