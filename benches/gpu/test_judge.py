"""Tests the verdicts of benches/gpu.py on made-up measurements; run by `make test`."""
import pathlib, sys, types, unittest, unittest.mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import judge
from judge import MET, MISSED, OPEN
from steady import Tally
from twins import Twins


def ours(batch, ms, rate, **more):
    return {"part": "constancy", "model": "m", "batch": batch, "plain": False, "median_ms": ms, "images_per_second": rate,
            "operators": [["gemm", 48, 0.3], ["norm", 25, 0.1]], **more}


def torch(batch, mode, ms, rate, memory="pinned"):
    return {"part": "torch", "model": "m", "mode": mode, "memory": memory, "batch": batch, "median_ms": ms,
            "images_per_second": rate}


def ort(batch, ms, rate):
    return {"part": "ort", "model": "m", "batch": batch, "median_ms": ms, "images_per_second": rate}


RIVALS = [torch(1, "eager", 2.7, 370), torch(1, "graphs", 1.4, 700, "plain"), torch(1, "graphs", 0.9, 1100), ort(1, 1.2, 800),
          torch(32, "graphs", 4.0, 8000), ort(32, 3.2, 10000)]


class Speed(unittest.TestCase):
    def judge(self, batch, lines):
        return judge.speed(lines, "m", batch)

    def test_one_image_is_measured_by_the_fastest_rival(self):
        self.assertEqual(self.judge(1, [ours(1, 0.9, 1100), *RIVALS])["verdict"], MET)
        slower = self.judge(1, [ours(1, 0.91, 1100), *RIVALS])
        self.assertEqual(slower["verdict"], MISSED)
        self.assertIn("PyTorch graphs 0.9", slower["detail"])

    def test_throughput_may_be_a_little_behind_the_best(self):
        self.assertEqual(self.judge(32, [ours(32, 4.1, 7700), *RIVALS])["verdict"], MET)
        slower = self.judge(32, [ours(32, 4.2, 7600), *RIVALS])
        self.assertEqual(slower["verdict"], MISSED)
        self.assertIn("ONNX Runtime 10000", slower["detail"])

    def test_our_operators_are_judged_and_not_tracts_alone(self):
        lines = [ours(1, 5.0, 200, plain=True), ours(1, 0.5, 2000), *RIVALS]
        self.assertEqual(self.judge(1, lines)["verdict"], MET)

    def test_an_absent_rival_is_named_and_leaves_a_good_figure_open(self):
        absent = {"part": "ort", "model": "m", "left_out": "ONNX Runtime is not installed"}
        lines = [line for line in RIVALS if line["part"] == "torch"] + [absent]
        good = self.judge(1, [ours(1, 0.5, 2000), *lines])
        self.assertEqual(good["verdict"], OPEN)
        self.assertIn("without ort: ONNX Runtime is not installed", good["detail"])
        self.assertEqual(self.judge(1, [ours(1, 1.5, 600), *lines])["verdict"], MISSED, "one that is there is faster")
        alone = self.judge(1, [ours(1, 0.5, 2000), {"part": "torch", "left_out": "PyTorch is not installed"}, absent])
        self.assertEqual(alone["verdict"], OPEN)
        self.assertIn("PyTorch is not installed", alone["detail"])

    def test_a_rival_that_failed_on_another_tower_is_not_missed_here(self):
        other = {"part": "ort", "model": "other", "failed": "no kernel"}
        self.assertEqual(self.judge(1, [ours(1, 0.5, 2000), *RIVALS, other])["verdict"], MET)

    def test_what_failed_is_missed_and_what_was_not_run_is_open(self):
        failed = {"part": "constancy", "model": "m", "batch": 1, "plain": False, "failed": "no\nGPU"}
        self.assertEqual(self.judge(1, [failed, *RIVALS])["verdict"], MISSED)
        self.assertEqual(self.judge(1, RIVALS)["verdict"], OPEN)


class Cosine(unittest.TestCase):
    def test_the_least_counts(self):
        line = {"part": "agree", "model": "m", "images": 200, "median": 0.99999, "least": 0.9991}
        self.assertEqual(judge.cosine([line], "m")["verdict"], MET)
        self.assertEqual(judge.cosine([{**line, "least": 0.9989}], "m")["verdict"], MISSED)
        self.assertEqual(judge.cosine([], "m")["verdict"], OPEN)
        self.assertEqual(judge.cosine([{"part": "agree", "model": "m", "failed": "no GPU"}], "m")["verdict"], MISSED)


def long_run(grow=0.0, gpu=600, **more):
    samples = [{"part": "steady", "model": "m", "seconds": s, "daemon": 40 + (s < 60) * -20 + grow * s / 600, "worker": 600.0,
                "gpu": gpu} for s in range(0, 601, 5)]
    end = {"part": "steady", "model": "m", "minutes": 10.01, "events": 90000, "frames": 1000, "differing": 0, "worst": 0.03,
           "held": True, "exit": 0}
    return [*samples, {**end, **more}]


class Steady(unittest.TestCase):
    def judge(self, lines):
        return [v["verdict"] for v in judge.steady(lines)]

    def test_memory_may_settle_and_then_is_flat(self):
        self.assertEqual(self.judge(long_run()), [MET, MET])
        self.assertEqual(self.judge(long_run(grow=9)), [MET, MET], "7.2 MiB in four fifths")
        self.assertEqual(self.judge(long_run(grow=12)), [MISSED, MET])
        self.assertIn("gpu +0.0 MiB of 12 allowed", judge.steady(long_run())[0]["detail"])

    def test_memory_that_is_not_seen_is_not_judged(self):
        self.assertEqual(self.judge(long_run(gpu=None)), [OPEN, MET])

    def test_decisions_other_than_the_cpus_miss(self):
        self.assertEqual(self.judge(long_run(differing=1)), [MET, MISSED])

    def test_few_frames_or_minutes_leave_it_open(self):
        self.assertEqual(self.judge(long_run(frames=999)), [MET, OPEN])
        self.assertEqual(self.judge(long_run(minutes=9.9)), [OPEN, OPEN])

    def test_the_cpu_in_the_gpus_place_proves_nothing(self):
        self.assertEqual(self.judge(long_run(held=False)), [MISSED, MISSED])
        self.assertEqual(self.judge(long_run(exit=70)), [MISSED, MISSED])

    def test_a_run_that_failed_or_was_left_out(self):
        self.assertEqual(self.judge([{"part": "steady", "model": "m", "failed": "no event"}]), [MISSED, MISSED])
        self.assertEqual(self.judge([]), [OPEN, OPEN])


def event(scores, file="a.png"):
    top = [{"class": name, "score": score} for name, score in scores.items()]
    return {"class": top[0]["class"], "margin": top[0]["score"] - top[1]["score"], "top": top, "file": file,
            "latency_ms": {"embed": 1.0}}


class Decisions(unittest.TestCase):
    def differs(self, gpu, cpu):
        return judge.differs(event(gpu), event(cpu))

    def test_scores_within_tolerance_are_the_same(self):
        worst, differs = self.differs({"x": 0.74, "y": 0.26}, {"x": 0.70, "y": 0.30})
        self.assertAlmostEqual(worst, 0.04)
        self.assertFalse(differs)
        self.assertTrue(self.differs({"x": 0.76, "y": 0.24}, {"x": 0.70, "y": 0.30})[1])

    def test_only_what_is_as_good_as_even_may_change_places(self):
        self.assertFalse(self.differs({"y": 0.51, "x": 0.49}, {"x": 0.52, "y": 0.48})[1])
        self.assertTrue(self.differs({"y": 0.51, "x": 0.49}, {"x": 0.53, "y": 0.47})[1])
        self.assertTrue(self.differs({"v": 0.51, "w": 0.49}, {"x": 0.52, "y": 0.48})[1], "other classes altogether")

    def test_every_event_is_held_against_the_cpus_of_its_frame(self):
        cpu = {"a.png": event({"x": 0.9, "y": 0.1}), "b.png": event({"y": 0.9, "x": 0.1})}
        tally = Tally(cpu)
        for file, scores in [("a.png", {"x": 0.9, "y": 0.1}), ("b.png", {"x": 0.9, "y": 0.1}), ("a.png", {"x": 0.89, "y": 0.11})]:
            tally.take(event(scores, file))
        self.assertEqual((tally.events, len(tally.seen), tally.differing), (3, 2, 1))
        self.assertEqual(tally.example["event"]["file"], "b.png")


class Summary(unittest.TestCase):
    def test_the_exit_status_is_that_of_the_worst_verdict(self):
        status = lambda *results: judge.exit_code([{"verdict": r} for r in results])
        self.assertEqual([status(MET, MET), status(MET, OPEN), status(OPEN, MISSED, MET)], [0, 3, 1])

    def test_everything_that_was_measured_is_in_the_tables(self):
        lines = [ours(1, 0.5, 2000), ours(32, 2, 16000), *RIVALS]
        text = judge.tables(lines, ["m"], judge.verdicts(lines, ["m"], "cuda"))
        self.assertIn("| tower | batch | unit | constancy | ONNX Runtime | PyTorch eager | PyTorch graphs |", text)
        self.assertIn("| m | 1 | ms | 0.5 | 1.2 | 2.7 | 0.9 |", text)
        self.assertIn("| m | 32 | images/s | 16000 | 10000 | - | 8000 |", text)
        self.assertIn("| m | 1 | 2 | 73 | 0.400 | gemm 48 x 0.3 ms, norm 25 x 0.1 ms |", text)

    def test_on_the_cpu_nothing_is_met(self):
        lines = [ours(1, 0.5, 2000), ours(32, 2, 16000), *RIVALS, *long_run()]
        self.assertEqual({v["verdict"] for v in judge.verdicts(lines, ["m"], "cpu")}, {OPEN})
        self.assertIn(MET, {v["verdict"] for v in judge.verdicts(lines, ["m"], "cuda")})


class Absent(unittest.TestCase):
    def test_a_tower_without_a_twin_is_named(self):
        told, model = [], types.SimpleNamespace(name="of my own")
        with unittest.mock.patch("importlib.util.find_spec", return_value=object()):
            Twins([model], types.SimpleNamespace(modes="eager"), lambda **line: told.append(line))
        self.assertIn("no twin", told[0]["left_out"])
        with unittest.mock.patch("importlib.util.find_spec", return_value=None):
            Twins([model], types.SimpleNamespace(modes="eager"), lambda **line: told.append(line))
        self.assertIn("pip install torch", told[1]["left_out"])


if __name__ == "__main__":
    unittest.main()
