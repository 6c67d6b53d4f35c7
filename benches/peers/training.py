#!/usr/bin/env python3
"""Speed of learning circuits: lvd beside cirkit, SparC and PyJuice, on the same MNIST pictures, at as many parameters.

    python3 -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    just bench peers --data FOLDER/mnist/train-images-idx3-ubyte.gz

A forward pass (log p of a batch) and a training step of the first 256 pictures: of the libraries forward, backward and Adam (PyJuice: its
own EM), of lvd an EM step (likelihoods, flows, statistics, M-step). lvd has an HCLT of 32 and of 64 states over all pixels. Beside it:

* cirkit with its quad graph and its quad tree (CP layers), with as many units as fit into our number of parameters;
* SparC with our HCLT, the same tree, random numbers: its gradient and the renewal of its compiled numbers;
* PyJuice's own HCLT of as many states, on a GPU (it has no other way); where there is none, the table says so.

Everyone has two threads of the CPU, or the GPU by `--device cuda` (lvd, cirkit, PyJuice). Every round asks everyone once, in turn; a rate is the
median over the rounds, by the clock and by processor time, which other work on the machine disturbs less. Prints Markdown.
"""
import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

THREADS = 2
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
HERE = pathlib.Path(__file__).resolve().parent
BATCH = 256
# A gradient of SparC takes so long that fewer pictures must do; its time is proportional to them.
SPARC_BATCH = 16
MISSING = "python3 -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt"

try:
    import numpy
    import torch
except ImportError as error:
    sys.exit(f"training.py: {error}: the environment of the other libraries is made by: {MISSING}")


def pictures(path, count):
    """The first pictures of an IDX file, int64 [N, H * W], and their side."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    number, height, width = numpy.frombuffer(raw, ">u4", 3, 4)
    flat = numpy.frombuffer(raw, numpy.uint8, offset=16).reshape(number, height * width)
    return flat[:count].astype(numpy.int64), int(height)


def taken(work):
    """Seconds by the clock and of processor time, after all that a GPU still has to do."""
    def now():
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    started = now()
    work()
    return [after - before for before, after in zip(started, now())]


def built():
    """The bench's program, built by cargo."""
    command = ["cargo", "bench", "--no-run", "--bench", "training", "--message-format=json-render-diagnostics"]
    found = subprocess.run(command, cwd=HERE.parents[1], check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, found.stdout.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "training")


class Lvd:
    """Our HCLT: one call of the bench a round."""

    def __init__(self, args, states):
        self.name, self.states = f"lvd, HCLT, {states} states", states
        self.command = [args.bench, "--pictures", args.data, "--states", states, "--batch", BATCH, "--device", args.device]
        self.first = self.call()
        self.parameters, self.tree = self.first["parameters"], numpy.array(self.first["tree"])

    def call(self):
        return json.loads(subprocess.run([str(word) for word in self.command], check=True, capture_output=True, text=True).stdout)

    def rates(self):
        found = self.call()
        return {"forward": found["forward"], "step": found["step"]}


class Library:
    """A library in this process."""

    batch = BATCH

    def rates(self):
        return {kind: [self.batch / seconds for seconds in taken(work)] for kind, work in (("forward", self.forward), ("step", self.step))}


class Cirkit(Library):
    def __init__(self, kind, side, most, data, device):
        from cirkit.pipeline import PipelineContext

        circuit, units = largest(kind, side, most)
        context = PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True)
        self.model = context.compile(circuit).to(device)
        self.data = torch.from_numpy(data).to(device)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        # n - 1 for every row of n probabilities, as for our own.
        self.parameters = free(circuit)
        self.name = f"cirkit, {kind.replace('-', ' ')}, CP, {units} units"

    def forward(self):
        with torch.no_grad():
            self.model(self.data)

    def step(self):
        self.adam.zero_grad()
        (-self.model(self.data).mean()).backward()
        self.adam.step()


def image_circuit(kind, side, units):
    from cirkit.templates import data_modalities, utils

    return data_modalities.image_data(
        (1, side, side),
        region_graph=kind,
        input_layer="categorical",
        num_input_units=units,
        sum_product_layer="cp",
        num_sum_units=units,
        sum_weight_param=utils.Parameterization(activation="softmax", initialization="normal"),
        input_params={"probs": utils.Parameterization(activation="softmax", initialization="normal")},
    )


def free(circuit):
    """n - 1 for every row of n probabilities."""
    shapes = [parameter.shape for layer in circuit.layers for parameter in layer.params.values()]
    return sum(int(numpy.prod(shape[:-1])) * (shape[-1] - 1) for shape in shapes)


def largest(kind, side, most):
    """cirkit's circuit with as many units as so many parameters allow: it grows with the units, so halve the interval."""
    low, high = 1, 512
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if free(image_circuit(kind, side, middle)) <= most else (low, middle)
    return image_circuit(kind, side, low), low


class SparC(Library):
    batch = SPARC_BATCH

    def __init__(self, ours, data):
        import sparc

        generator, states = numpy.random.default_rng(1), ours.states
        row = lambda n: generator.dirichlet(numpy.ones(n)).tolist()
        children = [numpy.flatnonzero(ours.tree == d) for d in range(len(ours.tree))]
        order = list(numpy.flatnonzero(ours.tree < 0))
        for variable in order:
            order.extend(children[variable])
        blocks = {}
        for d in reversed(order):
            leaves = [sparc.CategoricalInputNode(int(d), row(256)) for _ in range(states)]
            parts = [leaves, *([sparc.SumNode(blocks[c], row(states)) for _ in range(states)] for c in children[d])]
            blocks[d] = leaves if len(parts) == 1 else [sparc.ProductNode(list(some)) for some in zip(*parts)]
        self.root = sparc.SumNode(blocks[order[0]], row(states))
        sparc.set_num_threads(THREADS)
        self.model = self.root.compile()
        self.data = data[: self.batch].astype(numpy.int32)
        self.name, self.parameters = f"SparC, our HCLT, batch {self.batch}", ours.parameters

    def forward(self):
        self.model.log_likelihood(self.data)

    def step(self):
        # No optimiser: writing new numbers into its nodes one by one in Python would be no measure of the library.
        self.model.mean_log_likelihood_and_grad(self.data)
        self.model.refresh_parameters()


class PyJuice(Library):
    def __init__(self, ours, data):
        import pyjuice

        device = torch.device("cuda:0")
        self.data = torch.from_numpy(data).to(device)
        nodes = pyjuice.structures.HCLT(self.data.float(), num_latents=ours.states, num_bins=32, sigma=0.5 / 32, chunk_size=32)
        nodes.init_parameters(perturbation=2.0)
        self.model = pyjuice.TensorCircuit(nodes).to(device)
        self.optimizer = pyjuice.optim.CircuitOptimizer(self.model, lr=0.1, pseudocount=0.1)
        self.name, self.parameters = f"PyJuice, its HCLT, {ours.states} states", ours.parameters

    def forward(self):
        with torch.no_grad():
            self.model(self.data)

    def step(self):
        self.optimizer.zero_grad()
        self.model(self.data).mean().backward()
        self.optimizer.step()


def others(ours, args, data, side):
    """The libraries beside one of ours, and why some are not there."""
    makers = {
        "cirkit, quad graph": lambda: Cirkit("quad-graph", side, ours.parameters, data, args.device),
        "cirkit, quad tree": lambda: Cirkit("quad-tree-2", side, ours.parameters, data, args.device),
        "SparC": lambda: SparC(ours, data),
        "PyJuice": lambda: PyJuice(ours, data),
    }
    if not torch.cuda.is_available():
        del makers["PyJuice"]
    found, absent = [], [] if torch.cuda.is_available() else ["PyJuice: it runs on a GPU alone, and this machine has none"]
    for name, make in makers.items():
        if args.only and not any(word in name.lower() for word in args.only.split(",")):
            continue
        try:
            library = make()
            library.rates()
            found.append(library)
        except Exception as error:  # whatever a library has to say is a line of the table, and the others go on
            absent.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        print(f"{ours.states} states, {name}: ready", file=sys.stderr)
    return found, absent


def shown(rate):
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def table(groups, rates):
    print("| | parameters | forward | training step | forward, a core | training step, a core |")
    print("|---|---|---|---|---|---|")
    for systems in groups:
        ours = systems[0]
        for who in systems:
            cells = []
            for clock in (0, 1):
                for kind in ("forward", "step"):
                    own, our = (statistics.median(r[kind][clock] for r in rates[x]) for x in (who, ours))
                    cells.append(shown(own) + ("" if who is ours else f" (1/{shown(our / own)})" if our > own else f" ({shown(own / our)} x)"))
            print(f"| {who.name} | {who.parameters:,} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="MNIST's training pictures, an IDX file")
    parser.add_argument("--bench", type=pathlib.Path, help="the program of benches/training.rs; without it, cargo builds it")
    parser.add_argument("--states", default="32,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", help="libraries by parts of their names, with commas: cirkit,sparc,pyjuice")
    args = parser.parse_args()
    args.bench = args.bench or built()
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    data, side = pictures(args.data, BATCH)
    groups, absent = [], []
    for states in args.states.split(","):
        ours = Lvd(args, int(states))
        found, without = others(ours, args, data, side)
        groups.append([ours, *found])
        absent += [line for line in without if line not in absent]
    everyone = [who for systems in groups for who in systems]
    rates, loads = {who: [] for who in everyone}, [os.getloadavg()[0]]
    for number in range(args.rounds):
        for who in everyone:
            rates[who].append(who.rates())
        loads.append(os.getloadavg()[0])
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"the CPU, {THREADS} threads"
    print(f"Pictures a second on {where}; batch {BATCH}; medians of {args.rounds} rounds; load average {min(loads):.1f} to {max(loads):.1f};")
    print("in brackets the share of our rate. The last two columns count processor time: pictures a second of one core.\n")
    table(groups, rates)
    for line in absent:
        print(f"\n{line}.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"training.py: {error.stderr.strip()}")
