#!/usr/bin/env python3
"""What needs a GPU, all of it in one go and within nine minutes, with one file of results.

    just gpu-check [--data-root FOLDER] [--minutes 9] [--out gpu-check.md]
    python3 scripts/gpu-check.py --list

Steps: tests that compare the GPU with the CPU; the digits from end to end on both; speeds of circuits, Gaussians and k-means as shares of
matrix products, with the time in kernels against the gaps between them; Gaussians and Gaussians with context on CIFAR-10, 512 and 1,024
of them; PyJuice's HCLT beside ours. Every step has its own time, and what fails or is missing is a row of the table, not the end.
Without a GPU the same steps run on the CPU, smaller, and the file says that it was not run on a GPU.

The programs are built first, which does not count. Where there is no cargo, those of --programs are used: a folder with lvd, devices, hclt,
gaussian, kmeans and training, as an earlier call with cargo leaves it (target/gpu-check).
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCHES = ("hclt", "gaussian", "kmeans", "training")
COMPONENTS = (512, 1024)
# On the CPU everything is there to show that it runs: few pictures, few components.
SMALL = ("data.train_limit=500", "latents.clusters=8", "compute.watched=50")
LONGEST = 120  # seconds of a training that is broken off
NAMES = {"gaussian": "Gaussians", "context": "Gaussians with context"}


class Skipped(Exception):
    """Why a step is not run."""


class Failed(Exception):
    """What a step ended with."""


class Check:
    """What the steps share: programs, device, and the time that is left."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.card, self.driver = gpu()
        self.device = "cuda" if self.card else "cpu"
        self.ends = time.monotonic() + 60 * args.minutes
        self.env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        if args.libtorch_cuda:
            self.env["LIBTORCH"] = str(args.libtorch_cuda.resolve().parent)

    def left(self):
        return self.ends - time.monotonic()

    def call(self, program, *words, most, stop=False, partial=False):
        """Output of a program, seconds, and its peak of memory in MB. With `stop`, Ctrl-C after so many seconds is no fault; with
        `partial`, what was printed until then will do."""
        command = [str(self.args.programs / program) if isinstance(program, str) else str(program[0]), *map(str, words)]
        most = max(1.0, min(most, self.left()))
        started, memory = time.monotonic(), Memory(self.card)
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=output, stderr=subprocess.STDOUT)
            memory.watch(process.pid)
            try:
                process.wait(most)
                late = False
            except subprocess.TimeoutExpired:
                late = True
                process.send_signal(signal.SIGINT if stop else signal.SIGKILL)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            memory.end()
            output.seek(0)
            text = output.read()
        seconds = time.monotonic() - started
        if late and partial:
            return f"{text.rstrip()}\n(broken off after {most:.0f} s)", seconds, memory
        if late and not stop:
            raise Failed(f"not done after {most:.0f} s")
        if process.returncode not in ((0, 130) if stop else (0,)):
            lines = [line for line in text.splitlines() if line.strip()] or ["no output"]
            raise Failed(f"exit code {process.returncode}: {lines[-1].strip()[:200]}")
        return text, seconds, memory


class Memory:
    """Peaks of a process in MB: resident, and on the GPU what is in use more than before."""

    def __init__(self, card):
        self.card, self.host, self.gpu, self.over = card, 0.0, 0.0, threading.Event()
        self.before = self.used() if card else 0.0

    def used(self):
        found = smi("memory.used")
        return float(found.splitlines()[0]) if found else 0.0

    def watch(self, pid):
        def look():
            while not self.over.wait(0.5):
                self.look(pid)
        self.thread = threading.Thread(target=look, daemon=True)
        self.thread.start()

    def look(self, pid):
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmHWM:\s+(\d+)", status)
        self.host = max(self.host, int(found.group(1)) / 1024 if found else 0.0)
        if self.card:
            self.gpu = max(self.gpu, self.used() - self.before)

    def end(self):
        self.over.set()
        self.thread.join()

    def __str__(self):
        return f"{self.host:.0f} MB" + (f", {self.gpu:.0f} MB on the GPU" if self.card else "")


def smi(field):
    """A field of nvidia-smi, or nothing."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else ""


def gpu():
    """Name and driver of the first GPU, or two empty texts."""
    found = (smi("name,driver_version").splitlines() or [""])[0]
    name, _, driver = found.partition(", ")
    return name, driver


def tests(check):
    text, _, _ = check.call("devices", "--test-threads=1", "--nocapture", most=90)
    passed = int(re.search(r"(\d+) passed", text).group(1))
    skipped = text.count("skipped: no GPU")
    return f"{passed - skipped} agree with float64 references" + (f"; {skipped} of the GPU skipped" if skipped else "")


def digits(device):
    """The job on the embedded digits, shortened, with the table of its models."""
    def step(check):
        if device == "cuda" and not check.card:
            raise Skipped("no GPU")
        run = check.folder / f"digits-{device}"
        short = ["teacher.epochs=4", "distill.soft.epochs=4", "distill.joint.epochs=4", "baselines={}"]
        if check.device == "cuda":
            short = ["baselines={}"]
        options = [word for value in short for word in ("--set", value)]
        _, seconds, _ = check.call("lvd", "run", "experiments/digits/default.yaml", "--device", device, "--run-dir", run, *options, most=100)
        rows = {row["stage"]: row["bits_per_dimension"] for row in json.loads((run / "results.json").read_text())}
        said = ", ".join(f"{stage} {bpd:.4f}" for stage, bpd in rows.items())
        other = check.folder / "digits-cpu" / "results.json"
        if device == "cuda" and other.exists():
            cpu = {row["stage"]: row["bits_per_dimension"] for row in json.loads(other.read_text())}
            said += f"; at most {max(abs(rows[stage] - cpu[stage]) for stage in rows):.4f} from the CPU"
        return f"{said} bits per dimension"
    return step


def bench(name):
    def step(check):
        most = 75 if check.card else 100
        text, _, _ = check.call(name, "--device", check.device, most=most, partial=True)
        return ("below, as far as it came" if text.endswith(" s)") else "below"), text
    return step


def cifar(kind, components):
    """A training of Gaussians that is broken off when its time is over."""
    def step(check):
        root = check.args.data_root
        if not root or not (root / "cifar-10-batches-bin").is_dir():
            raise Skipped("no CIFAR-10: --data-root FOLDER names the folder with cifar-10-batches-bin")
        if components != COMPONENTS[0] and not check.card:
            raise Skipped("no GPU; the smaller one shows that it runs")
        run = check.folder / f"cifar10-{kind}-{components}"
        values = [f"data.root={root.resolve()}", *((f"latents.clusters={components}",) if check.card else SMALL)]
        options = [word for value in values for word in ("--set", value)]
        share = check.left() / max(1, check.trainings)
        check.trainings -= 1
        most = min(LONGEST, share) if check.card else min(45, share)
        words = ["distill", f"experiments/cifar10/{kind}.yaml", "--device", check.device, "--run-dir", run, *options]
        _, seconds, memory = check.call("lvd", *words, most=most, stop=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] if (run / "metrics.jsonl").exists() else []
        epochs = [line for line in lines if "valid_bpd" in line]
        if not epochs:
            return f"no epoch within {seconds:.0f} s; peak {memory}"
        pairs = [(a, b) for a, b in zip(epochs, epochs[1:]) if a["stage"] == b["stage"] and b["step"] > a["step"]]
        pace = f", {(pairs[-1][1]['seconds'] - pairs[-1][0]['seconds']):.1f} s for the last" if pairs else ""
        said = ", ".join(f"{line['stage']} {line['step']}: {line['valid_bpd']:.4f}" for line in epochs[-4:])
        size = "" if check.card else " (8 components, 500 pictures)"
        return f"{len(pairs)} epochs{pace}; validation {said}; peak {memory}{size}"
    return step


def pyjuice(check):
    if not check.card:
        raise Skipped("no GPU; PyJuice has no other way")
    data = check.args.data_root / "mnist" / "train-images-idx3-ubyte.gz" if check.args.data_root else None
    if not data or not data.exists():
        raise Skipped("no MNIST in --data-root")
    python = check.args.python
    if subprocess.run([python, "-c", "import pyjuice"], capture_output=True).returncode:
        raise Skipped(f"{python} has no pyjuice: pip install pyjuice")
    script = [ROOT / "benches/peers/training.py", "--data", data, "--bench", check.args.programs / "training"]
    text, _, _ = check.call([python], *script, "--device", "cuda", "--only", "pyjuice", "--rounds", 3, most=75)
    return "below", text


def steps():
    """Name, what it does, and the work."""
    found = [("tests", "tests of devices: likelihoods, flows, EM, Gaussians, k-means", tests)]
    found += [(f"digits-{device}", f"digits from end to end, {device}", digits(device)) for device in ("cpu", "cuda")]
    found += [(f"bench-{name}", f"speed: {name}", bench(name)) for name in ("hclt", "gaussian", "kmeans")]
    found += [("pyjuice", "HCLT of equal size in PyJuice", pyjuice)]
    trainings = [(kind, count) for kind in ("gaussian", "context") for count in COMPONENTS]
    found += [(f"{kind}-{count}", f"CIFAR-10, {count} {NAMES[kind]}", cifar(kind, count)) for kind, count in trainings]
    return found


def build(programs):
    """Build what the steps call and leave it in a folder; without cargo, what lies there serves."""
    if not shutil.which("cargo"):
        return
    programs.mkdir(parents=True, exist_ok=True)
    targets = ["--bin", "lvd", "--test", "devices", *(word for name in BENCHES for word in ("--bench", name))]
    command = ["cargo", "build", "--release", "--message-format=json-render-diagnostics", *targets]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit(f"gpu-check.py: the programs do not build (exit code {built.returncode})")
    for line in built.stdout.splitlines():
        message = json.loads(line)
        name, path = message.get("target", {}).get("name"), message.get("executable")
        if path and name in ("lvd", "devices", *BENCHES):
            target = programs / name
            target.unlink(missing_ok=True)
            shutil.copy2(path, target)


def run(check, chosen):
    """Rows of the table, and what is printed below it."""
    rows, below = [], []
    check.trainings = sum(work.__qualname__.startswith("cifar.") for _, _, work in chosen)
    for name, what, work in chosen:
        started = time.monotonic()
        try:
            if check.left() < 1:
                raise Skipped("the time is over")
            said = work(check)
            if isinstance(said, tuple):
                said, text = said
                below.append((what, text))
        except Skipped as reason:
            said = f"skipped: {reason}"
        except Failed as reason:
            said = f"**failed**: {reason}"
        except (OSError, ValueError, KeyError, AttributeError) as error:
            said = f"**failed**: {type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        print(f"{name}: {said.splitlines()[0]} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        rows.append((what, said.replace("|", "\\|"), seconds))
        write(check, rows, below)
    return rows


def write(check, rows, below):
    """The file of results, after every step: what was done is kept whatever comes."""
    where = f"{check.card}, driver {check.driver}" if check.card else "**not run on a GPU**: no GPU was found, and the CPU ran smaller sizes"
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    manifests = sorted(check.folder.glob("*/manifest.json"))
    libtorch = json.loads(manifests[0].read_text())["libtorch"] if manifests else "unknown"
    lines = [
        "# GPU check",
        "",
        f"* Device: {where}",
        f"* Machine: {platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
        f"* Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {commit or 'unknown'}; libtorch {libtorch}",
        f"* {sum(row[2] for row in rows):.0f} s in all, without building",
        "",
        "| step | result | seconds |",
        "|---|---|---|",
        *(f"| {what} | {said} | {seconds:.0f} |" for what, said, seconds in rows),
    ]
    for what, text in below:
        lines += ["", f"## {what[0].upper()}{what[1:]}", "", "```text", text.rstrip(), "```"]
    part = check.args.out.with_name(check.args.out.name + ".part")
    part.write_text("\n".join(lines) + "\n")
    part.replace(check.args.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-check.md"), help="the file of results")
    parser.add_argument("--minutes", type=float, default=9, help="time for all steps; with 14 every training has its two minutes")
    parser.add_argument("--data-root", type=pathlib.Path, help="folder with cifar-10-batches-bin and mnist")
    parser.add_argument("--only", help="some steps by their names, with commas")
    parser.add_argument("--list", action="store_true", help="show the steps, run nothing")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target" / "gpu-check", help="folder of the programs")
    parser.add_argument("--libtorch-cuda", type=pathlib.Path, help="folder of libtorch_cuda.so, where it is not found")
    parser.add_argument("--python", default=sys.executable, help="the Python that has pyjuice")
    args = parser.parse_args()
    chosen = steps()
    if args.only:
        wanted = args.only.split(",")
        unknown = sorted(set(wanted) - {name for name, _, _ in chosen})
        if unknown:
            sys.exit(f"gpu-check.py: there is no step {', '.join(unknown)}; --list shows them")
        chosen = [step for step in chosen if step[0] in wanted]
    if args.list:
        for name, what, _ in chosen:
            print(f"{name:14} {what}")
        return
    args.programs, args.out = args.programs.resolve(), args.out.resolve()
    build(args.programs)
    with tempfile.TemporaryDirectory(prefix="gpu-check.") as folder:
        check = Check(args, pathlib.Path(folder))
        rows = run(check, chosen)
    print(f"gpu-check.py: {args.out}", file=sys.stderr)
    if any(said.startswith("**failed**") for _, said, _ in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
