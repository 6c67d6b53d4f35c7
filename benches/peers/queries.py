#!/usr/bin/env python3
"""Speed of questions to circuits: lvd beside cirkit and SparC, on the same pictures, two threads and, where that can be, the same circuit.

    pip install -r benches/peers/requirements.txt
    python3 benches/peers/queries.py --run runs/mnist --lvd target/release/lvd FOLDER/mnist/t10k-images-idx3-ubyte.gz

The run needs stage `pixel_hclt`, an HCLT over all pixels of grey pictures. Its tree and its numbers are carried over into the other
libraries, whose log p is compared with ours picture by picture before anything is timed. cirkit comes a second time with a
quad tree, the structure its own documentation starts from, at about as many parameters with random numbers: it has fewer and wider layers.

Every round asks everything of everyone once, in turn; a rate is the median over the rounds. The libraries are timed inside of this
process, by whole batches of the size that was fastest for each of them; lvd is a process whose time on few pictures is taken off that
on many, so that its start does not count but reading pictures and writing the answers does. Prints a table in Markdown.
"""
import argparse
import csv
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

THREADS = 2
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

try:
    import numpy
    import sparc
    import torch
    from cirkit.backend.torch.queries import IntegrateQuery, SamplingQuery
    from cirkit.pipeline import PipelineContext
    from cirkit.symbolic.circuit import Circuit
    from cirkit.symbolic.initializers import ConstantTensorInitializer
    from cirkit.symbolic.layers import CategoricalLayer, HadamardLayer, SumLayer
    from cirkit.symbolic.parameters import Parameter, TensorParameter
    from cirkit.templates import data_modalities
    from cirkit.utils.scope import Scope
    from safetensors.numpy import load_file

    from common import read, run
except ImportError as error:
    sys.exit(f"queries.py: {error}: pip install -r {pathlib.Path(__file__).parent}/requirements.txt")

QUESTIONS = {
    "likelihood": "likelihood",
    "marginal": "marginal of the upper half",
    "completion": "conditional samples of the lower half",
    "sample": "sampling",
}
BATCHES = (32, 64, 128, 256)
COMPLETIONS = 8
COMPARED = 64
# cirkit 0.3.1 raises every number of nats to this at least, ln of the least normal float64.
CIRKIT_FLOOR = -708.3964185322641


class Hclt:
    """The circuit of a run: parents `[D]`, the root first in `order`; p(root) `[H]`, edges `[D, H, H]`, inputs `[D, V, H]`."""

    def __init__(self, file):
        tensors = load_file(file)
        self.parents = tensors["patch.trees"][0]
        self.roots, self.edges, self.inputs = (tensors[f"patch.{name}"][0] for name in ("roots", "edges", "inputs"))
        if len(tensors["patch.trees"]) != 1 or self.roots.shape[0] != 1:
            sys.exit(f"{file}: expected one tree, as stage pixel_hclt makes it")
        self.children = [numpy.flatnonzero(self.parents == d) for d in range(len(self.parents))]
        self.order = list(numpy.flatnonzero(self.parents < 0))
        for variable in self.order:
            self.order.extend(self.children[variable])
        states, values = self.inputs.shape[2], self.inputs.shape[1]
        variables = len(self.parents)
        self.parameters = (states - 1) * (1 + states * (variables - 1)) + variables * states * (values - 1)


def taken(work):
    """Seconds by the clock, and of processor time by this process and those that it waited for."""
    def now():
        times = os.times()
        return numpy.array([time.perf_counter(), time.process_time() + times.children_user + times.children_system])

    started = now()
    work()
    return now() - started


class Lvd:
    """The program: seconds of many pictures less those of few."""

    name = "lvd"
    few = 64

    def __init__(self, args, parameters, folder):
        self.command, self.run, self.folder, self.pictures = args.lvd, args.run, folder, args.pictures
        self.many = {"likelihood": 10000, "marginal": 10000, "completion": 576, "sample": 2112}
        self.parameters = f"{parameters:,}"

    def call(self, question, count):
        data = ["--data", self.pictures, "--first", str(count)]
        options = {
            "likelihood": ["score", self.run, *data, "--out", self.folder / "all.csv"],
            "marginal": ["score", self.run, *data, "--observed", "top", "--out", self.folder / "top.csv"],
            "completion": ["inpaint", self.run, *data, "--observed", "top", "--count", str(COMPLETIONS)],
            "sample": ["sample", self.run, "--count", str(count)],
        }[question]
        if question in ("completion", "sample"):
            options += ["--npy", self.folder / "drawn.npy"]
        return taken(lambda: run([self.command, *options, "--stage", "pixel_hclt", "--json"]))

    def rates(self, question):
        few, many = (self.call(question, count) for count in (self.few, self.many[question]))
        pictures = self.many[question] - self.few
        return pictures * (COMPLETIONS if question == "completion" else 1) / numpy.maximum(many - few, 1e-3)

    def log_likelihoods(self, question, count):
        self.call(question, count)
        with open(self.folder / {"likelihood": "all.csv", "marginal": "top.csv"}[question], newline="") as file:
            return numpy.array([float(row["log_p_nats"]) for row in csv.DictReader(file)])


class Library:
    """A library inside of this process; an answer is a function of a batch of pictures, or of a number of samples."""

    samples = 1
    floor = -numpy.inf

    def prepare(self, pictures):
        """Keep the pictures and find the fastest batch, by processor time: the clock is too rough where other work runs."""
        self.pictures = pictures
        self.batch = max(BATCHES, key=lambda size: max(self.timed(self.likelihood, size)[1] for _ in range(3)))

    def timed(self, answer, size):
        batch = self.pictures[:size]
        return len(batch) / taken(lambda: answer(batch))

    def rates(self, question):
        if question == "completion":
            return None
        if question == "sample":
            return self.samples / taken(lambda: self.sample(self.samples))
        return self.timed({"likelihood": self.likelihood, "marginal": self.marginal}[question], self.batch)

    def log_likelihoods(self, question, count):
        batch = self.pictures[:count]
        return self.likelihood(batch) if question == "likelihood" else self.marginal(batch)


class Cirkit(Library):
    floor = CIRKIT_FLOOR

    def __init__(self, name, circuit):
        context = PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True)
        self.name = name
        self.model = context.compile(circuit).eval()
        self.parameters = f"{free_numbers([p.shape for p in self.model.parameters()]):,}"
        half = Scope(range(len(circuit.scope) // 2, len(circuit.scope)))
        integrate = IntegrateQuery(self.model)
        # A circuit with the lower half integrated out, or a mask in every call.
        apart = context.integrate(self.model, scope=half)
        self.marginals = [
            lambda batch: apart(batch),
            lambda batch: integrate(batch, integrate_vars=half),
        ]
        self.sampling = SamplingQuery(self.model)

    def prepare(self, pictures):
        super().prepare(torch.from_numpy(pictures.astype(numpy.int64)))
        rates = [max(self.timed(answer, self.batch)[1] for _ in range(3)) for answer in self.marginals]
        self.marginals = [self.marginals[rates.index(max(rates))]]

    @torch.no_grad()
    def likelihood(self, batch):
        return self.model(batch).flatten().double().numpy()

    @torch.no_grad()
    def marginal(self, batch):
        return self.marginals[0](batch).flatten().double().numpy()

    @torch.no_grad()
    def sample(self, count):
        return self.sampling(count)[0].numpy()


class SparC(Library):
    name = "SparC, the same circuit"
    samples = 2000

    def __init__(self, hclt):
        self.parameters = f"{hclt.parameters:,}"
        blocks = {}
        for d in reversed(hclt.order):
            leaves = [sparc.CategoricalInputNode(int(d), normal(p)) for p in hclt.inputs[d].T]
            parts = [leaves, *([sparc.SumNode(blocks[c], normal(p)) for p in hclt.edges[c]] for c in hclt.children[d])]
            blocks[d] = leaves if len(parts) == 1 else [sparc.ProductNode(list(some)) for some in zip(*parts)]
        self.root = sparc.SumNode(blocks[hclt.order[0]], normal(hclt.roots[0]))
        sparc.set_num_threads(THREADS)
        self.model = self.root.compile()

    def prepare(self, pictures):
        super().prepare(pictures.astype(numpy.float64))

    def likelihood(self, batch):
        return self.model.log_likelihood(batch.astype(numpy.int32))

    def marginal(self, batch):
        batch = batch.copy()
        batch[:, batch.shape[1] // 2 :] = numpy.nan
        return self.model.log_likelihood(batch)

    def sample(self, count):
        with ThreadPoolExecutor(THREADS) as pool:
            some = [count // THREADS] * THREADS
            return numpy.concatenate(list(pool.map(lambda job: self.model.sample(job[1], seed=job[0]), enumerate(some))))


def normal(row):
    row = row.astype(numpy.float64)
    return (row / row.sum()).tolist()


def same_in_cirkit(hclt):
    def weights(array):
        return Parameter.from_input(TensorParameter(*array.shape, initializer=ConstantTensorInitializer(array)))

    states, values = hclt.inputs.shape[2], hclt.inputs.shape[1]
    layers, inputs, block = [], {}, {}

    def add(layer, *below):
        layers.append(layer)
        inputs[layer] = list(below)
        return layer

    for d in reversed(hclt.order):
        probabilities = weights(numpy.ascontiguousarray(hclt.inputs[d].T))
        parts = [add(CategoricalLayer(Scope([int(d)]), states, num_categories=values, probs=probabilities))]
        parts += [add(SumLayer(states, states, weight=weights(hclt.edges[c])), block[c]) for c in hclt.children[d]]
        block[d] = parts[0] if len(parts) == 1 else add(HadamardLayer(states, arity=len(parts)), *parts)
    root = add(SumLayer(states, 1, weight=weights(hclt.roots)), block[hclt.order[0]])
    return Circuit(layers, {layer: below for layer, below in inputs.items() if below}, [root])


def quad_tree(side, most):
    """cirkit's quad tree with as many units as `most` parameters allow."""
    units = 1
    while True:
        larger = data_modalities.image_data(
            (1, side, side),
            region_graph="quad-tree-2",
            input_layer="categorical",
            num_input_units=units,
            sum_product_layer="cp",
            num_sum_units=units,
        )
        shapes = [parameter.shape for layer in larger.layers for parameter in layer.params.values()]
        if units > 1 and free_numbers(shapes) > most:
            return circuit
        circuit, units = larger, units + 1


def free_numbers(shapes):
    """n - 1 for every row of n probabilities."""
    return sum(math.prod(shape[:-1]) * (shape[-1] - 1) for shape in shapes)


def compare(ours, library):
    """Whether two implementations of one circuit say the same."""
    for question in ("likelihood", "marginal"):
        nats, theirs = (who.log_likelihoods(question, COMPARED) for who in (ours, library))
        low = nats < library.floor + 10
        difference = numpy.abs(nats - theirs)[~low].max()
        floored = f"; {low.sum()} of {COMPARED} pictures left out, near or below its floor of {library.floor:.1f}" if low.any() else ""
        print(f"{library.name}: {QUESTIONS[question]} within {difference:.2g} nats of ours{floored}", file=sys.stderr)
        if not difference < 0.05:
            sys.exit(f"queries.py: {library.name} does not compute our circuit")


def cell(rates, ours):
    """Pictures a second, and how much of our rate that is."""
    if rates is None:
        return "has none"
    rate = statistics.median(rates)
    shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    if ours is None:
        return shown
    ratio = statistics.median(ours) / rate
    return f"{shown} ({f'1/{ratio:,.0f}' if ratio >= 10 else f'1/{ratio:.1f}' if ratio >= 1 else f'{1 / ratio:.1f} x'})"


def table(systems, rates, kind):
    """Lines of Markdown; ours is the first system."""
    print(f"| | parameters | {' | '.join(QUESTIONS.values())} |")
    print(f"|---|{'---|' * (1 + len(QUESTIONS))}")
    for who in systems:
        cells = []
        for question in QUESTIONS:
            own, ours = rates[who, question], [r[kind] for r in rates[systems[0], question]]
            cells.append(cell(None if own[0] is None else [r[kind] for r in own], None if who is systems[0] else ours))
        print(f"| {who.name} | {who.parameters} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=pathlib.Path, help="grey test pictures, an IDX file")
    parser.add_argument("--run", type=pathlib.Path, required=True, help="run folder with stage pixel_hclt")
    parser.add_argument("--lvd", default="lvd", help="the program")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    pictures = numpy.stack(read(args.pictures)[:max(BATCHES)])
    side, flat = pictures.shape[1], pictures.reshape(len(pictures), -1)
    model = args.run / "pixel_hclt" / "model.safetensors"
    if not model.exists():
        sys.exit(f"{model}: there is no such file; the run needs stage pixel_hclt (baselines.pixel_hclt)")
    hclt = Hclt(model)
    with tempfile.TemporaryDirectory() as folder:
        ours = Lvd(args, hclt.parameters, pathlib.Path(folder))
        same = [Cirkit("cirkit, the same circuit", same_in_cirkit(hclt)), SparC(hclt)]
        others = [*same, Cirkit("cirkit, quad tree (CP)", quad_tree(side, hclt.parameters))]
        for library in others:
            library.prepare(flat)
            print(f"{library.name}: batches of {library.batch}", file=sys.stderr)
        for library in same:
            compare(ours, library)
        systems = [ours, *others]
        rates = {(who, question): [] for who in systems for question in QUESTIONS}
        loads = [os.getloadavg()[0]]
        for _ in range(args.rounds):
            for who, question in rates:
                rates[who, question].append(who.rates(question))
            loads.append(os.getloadavg()[0])
    load = f"load average {min(loads):.1f} to {max(loads):.1f}"
    print(f"Pictures a second, {THREADS} threads, {args.rounds} rounds, {load}; in brackets the share of our rate\n")
    table(systems, rates, 0)
    print("\nThe same by processor time: pictures a second of one core\n")
    table(systems, rates, 1)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"queries.py: {error.stderr.strip()}")
