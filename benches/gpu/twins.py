"""The architectures of the towers in PyTorch, with random weights: eager, compiled, and compiled with CUDA graphs.

Each runs in a process of its own. They compile in parallel while nothing is timed, and are timed one after the other.
"""
import importlib.util, json, os, select, statistics, subprocess, sys, tempfile, time

BATCHES = [1, 32]
MODES = ["eager", "compiled", "graphs"]
# Width, layers, heads, patch.
TRANSFORMERS = {"clip-vit-b32": (768, 12, 12, 32), "clip-vit-b16": (768, 12, 12, 16), "pocket": (192, 6, 3, 32)}
TIMM = {"mobileclip2-s0": "fastvit_mci0"}
WARM_UP = 10


def say(**line):
    print(json.dumps(line), flush=True)
    return line


def runs_of(batch, runs):
    return runs // (1 if batch == 1 else 4)


def timed(run, count):
    """Sorted milliseconds of `count` runs, after warm-up runs that are not counted."""
    times = []
    for _ in range(count + WARM_UP):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[WARM_UP:])


def figures(batch, times):
    return {"batch": batch, "median_ms": round(statistics.median(times), 4),
            "p95_ms": round(times[len(times) * 95 // 100], 4),
            "images_per_second": round(batch * len(times) / sum(times) * 1e3, 1)}


def twin(name, edge, width):
    """The architecture in PyTorch, in half precision on the GPU."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x):
            b, s, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, d))
            h = self.up(self.norm2(x))
            return x + self.down(h * torch.sigmoid(1.702 * h))

    class Tower(nn.Module):
        def __init__(self, dim, layers, heads, patch):
            super().__init__()
            self.patches = nn.Conv2d(3, dim, patch, patch, bias=False)
            self.token = nn.Parameter(torch.randn(1, 1, dim))
            self.place = nn.Parameter(torch.randn(1, (edge // patch) ** 2 + 1, dim))
            self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(layers)])
            self.projection = nn.Linear(dim, width, bias=False)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
            x = self.before(x)
            for block in self.blocks:
                x = block(x)
            return self.projection(self.after(x[:, 0]))

    if name in TRANSFORMERS:
        model = Tower(*TRANSFORMERS[name])
    else:
        import timm
        from timm.utils import reparameterize_model
        model = reparameterize_model(timm.create_model(TIMM[name], pretrained=False, num_classes=width).eval())
    return model.eval().half().cuda()


def worker(name, edge, width, mode, runs):
    """Compiles, prints `ready`, waits for a line on stdin, and measures."""
    import torch
    if not torch.cuda.is_available():
        why = "see nvidia-smi" if torch.version.cuda else "it is built without CUDA"
        sys.exit(f"PyTorch {torch.__version__} finds no GPU: {why}")
    model = twin(name, edge, width)
    if name in TIMM:
        model = model.to(memory_format=torch.channels_last)
    if mode != "eager":
        model = torch.compile(model, mode="reduce-overhead" if mode == "graphs" else "default", dynamic=False)

    def embed(images):
        return model(images.cuda(non_blocking=True).half()).float().cpu()

    inputs = {batch: torch.randn(batch, 3, edge, edge).pin_memory() for batch in BATCHES}
    with torch.inference_mode():
        for images in inputs.values():
            for _ in range(4):
                embed(images)
        print("ready", flush=True)
        sys.stdin.readline()
        plain = {(batch, "plain"): images.clone() for batch, images in inputs.items()}
        for (batch, memory), images in {**{(b, "pinned"): i for b, i in inputs.items()}, **plain}.items():
            times = timed(lambda: embed(images), runs_of(batch, runs))
            say(part="torch", model=name, mode=mode, memory=memory, **figures(batch, times), torch=torch.__version__)


class Twins:
    """The PyTorch processes."""

    def __init__(self, models, args, record):
        self.workers, self.args, self.record, self.waited = [], args, record, False
        if models and importlib.util.find_spec("torch") is None:
            record(part="torch", left_out="PyTorch is not installed (pip install torch)")
            models = []
        for model in models:
            if model.name not in TRANSFORMERS and model.name not in TIMM:
                reason = "there is no twin of it; encoder.name must be one of those in models/"
                record(part="torch", model=model.name, left_out=reason)
            elif model.name in TIMM and importlib.util.find_spec("timm") is None:
                said = "its twin is timm's, which is not installed (pip install timm)"
                record(part="torch", model=model.name, left_out=said)
            else:
                self.workers += [self.start(model, mode) for mode in args.modes.split(",")]

    def start(self, model, mode):
        command = [sys.executable, __file__, model.name, str(model.edge), str(model.width), mode, str(self.args.runs)]
        errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env={**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "4"})
        return model, mode, process, errors

    def wait(self):
        """Waits, on the first call, until each has compiled, failed or exceeded the limit."""
        if self.waited:
            return
        self.waited = True
        end, ready = time.monotonic() + self.args.limit, []
        for model, mode, process, errors in self.workers:
            readable, _, _ = select.select([process.stdout], [], [], max(end - time.monotonic(), 0))
            if readable and process.stdout.readline().strip() == "ready":
                ready.append((model, mode, process, errors))
                continue
            process.kill()
            errors.seek(0)
            said = errors.read().strip()[-800:] if readable else "it took too long to compile"
            self.record(part="torch", model=model.name, mode=mode, failed=said)
        self.workers = ready

    def run(self):
        for model, mode, process, errors in self.workers:
            try:
                lines = process.communicate("go\n", timeout=self.args.limit)[0].splitlines()
            except subprocess.TimeoutExpired:
                process.kill()
                self.record(part="torch", model=model.name, mode=mode, failed="it took too long")
                continue
            for line in lines:
                self.record(**json.loads(line))
            if process.returncode:
                errors.seek(0)
                self.record(part="torch", model=model.name, mode=mode, failed=errors.read().strip()[-800:])


if __name__ == "__main__":
    name, edge, width, mode, runs = sys.argv[1:]
    worker(name, int(edge), int(width), mode, int(runs))
