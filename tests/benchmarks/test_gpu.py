import json

import pytest
import torch

from benchmarks import gpu, gpu_cell
from benchmarks.gpu_cell import SIZES, Cell, measure

ENGINES = ["weights", "loop", "continuous", "static, first call", "static"]
PPO = ["weights", "generation", "scoring", "first update", "update"]
TOY = [
    (Cell("toy", "engines"), ENGINES),
    (Cell("toy", "ppo", "bf16", "separate"), PPO),
    (Cell("toy", "ppo", "mixed", "trunk"), PPO),
    (Cell("toy", "ppo", "lora", "trunk"), PPO),
    (Cell("toy", "ppo", "lora", "separate"), PPO),
]


@pytest.mark.parametrize(("cell", "names"), TOY)
def test_each_kind_of_cell_measures_its_phases(cell, names, capsys):
    measure(cell)
    phases = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [phase["phase"] for phase in phases] == names
    for phase in phases:
        if torch.cuda.is_available() or phase["phase"] != "continuous":
            assert phase["seconds"] > 0
            assert phase["peak_gib"] > 0
        else:
            assert phase["failed"].startswith("skipped")
    size = SIZES["toy"]
    replies = size.rows * size.reply
    assert phases[1]["tokens"] == replies
    assert phases[-1]["tokens"] == (replies if cell.kind == "engines" else replies + size.rows * size.prompt)


def test_parameters_are_those_of_the_model():
    size = SIZES["toy"]
    model = gpu_cell._model(size, "cpu", torch.bfloat16)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert SIZES["7b"].parameters == pytest.approx(6.74e9, rel=1e-3)
    assert SIZES["1b"].parameters == pytest.approx(1.10e9, rel=1e-2)


def test_weights_are_made_on_the_device():
    model = gpu_cell._model(SIZES["toy"], "meta", torch.bfloat16, scalar=True)
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize(
    ("weights", "critic", "bytes_each"),
    [("bf16", "separate", 20), ("bf16", "trunk", 12), ("mixed", "separate", 36), ("mixed", "trunk", 20)],
)
def test_states_take_their_bytes_a_parameter(weights, critic, bytes_each):
    needed = Cell("7b", "ppo", weights, critic).needed
    assert needed == pytest.approx(SIZES["7b"].parameters * bytes_each / 2**30)


def test_a_cell_that_runs_out_of_memory_says_what_it_needs_and_keeps_what_it_has(monkeypatch, capsys):
    def exhaust(cell, size, meter):
        with meter.phase("generation", 5):
            pass
        with meter.phase("update", 5):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 EiB")

    monkeypatch.setattr(gpu_cell, "_ppo", exhaust)
    measure(Cell("7b", "ppo", "mixed", "separate"))
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["phase"] == "generation"
    assert second == {"phase": "update", "failed": "out of memory: needs about 226 GiB and activations"}


def test_an_engine_that_fails_does_not_stop_the_others(monkeypatch, capsys):
    from transformers import LlamaForCausalLM

    def refuse(*arguments, **named):
        raise RuntimeError("no\n  graphs")

    monkeypatch.setattr(LlamaForCausalLM, "generate", refuse)
    measure(Cell("toy", "engines"))
    phases = {phase["phase"]: phase for phase in map(json.loads, capsys.readouterr().out.splitlines())}
    assert phases["static, first call"]["failed"] == "RuntimeError: no graphs"
    assert phases["loop"]["seconds"] > 0
    assert "static" not in phases


def _found(cell, *phases, note=""):
    return {**gpu.asdict(cell), "needed_gib": cell.needed, "phases": list(phases), "note": note}


def test_cells_that_no_longer_fit_into_the_time_are_skipped_by_name(capsys):
    clock = iter([0.0, 10.0, 10.0, 100.0, 120.0, 175.0])
    limits = []

    def runner(cell, seconds):
        limits.append((cell.size, seconds))
        return _found(cell)

    wanted = [Cell("7b", "engines"), Cell("1b", "engines"), Cell("1b", "ppo", "lora", "trunk")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu.time, "monotonic", lambda: next(clock, 185.0))
        results = gpu.collect(wanted, 200, runner)
    assert limits == [("7b", SIZES["7b"].most), ("1b", 80.0)]
    assert [result["note"] for result in results[:2]] == ["", ""]
    assert results[2]["note"] == "skipped: 15 s of 200 s were left, it takes 20 s or more"
    assert results[2]["weights"] == "lora"


def test_a_cell_that_takes_too_long_is_stopped():
    found = gpu.run(Cell("toy", "ppo", "bf16", "separate"), 0.3)
    assert found["note"] == "stopped after 0 s"
    assert found["phases"] == []


@pytest.mark.slow
def test_a_cell_in_its_own_process_returns_its_phases_or_its_error():
    found = gpu.run(Cell("toy", "ppo", "lora", "trunk"), 120)
    assert [phase["phase"] for phase in found["phases"]] == PPO
    assert found["note"] == ""
    found = gpu.run(Cell("toy", "ppo", "bf16", "none"), 120)
    assert found["note"].startswith("failed: ValueError")


def test_the_tables_have_a_line_for_all_that_was_measured_failed_or_skipped():
    done = {"seconds": 2.0, "tokens": 500, "peak_gib": 3.25}
    text = gpu.tables(
        [
            _found(Cell("1b", "engines"), {"phase": "loop", **done}, {"phase": "static", "failed": "no graphs"}),
            _found(Cell("7b", "engines"), note="skipped: no time"),
            _found(
                Cell("7b", "ppo", "mixed", "separate"),
                {"phase": "generation", **done},
                {"phase": "update", "failed": "out of memory"},
            ),
            _found(Cell("7b", "ppo", "lora", "trunk"), note="stopped after 9 s"),
        ]
    )
    assert "update, tokens/s (peak GiB) | states, GiB | note |" in text
    assert "| 1b | loop | 250 | 3.2 | 2.0 |" in text
    assert "| 1b | static | – | no graphs | – |" in text
    assert "| 7b | skipped: no time | | | |" in text
    assert "| 7b | mixed | separate | 250 (3.2) | – | – | 225.9 | update: out of memory |" in text
    assert "| 7b | lora | trunk | – | – | – | 28.6 | stopped after 9 s |" in text


def test_without_a_gpu_the_command_measures_the_toy_size(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(gpu, "collect", lambda wanted, seconds: asked.extend(wanted) or [_found(wanted[0])])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu", "--json"])
    gpu.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["device"] == "CPU"
    assert printed["cells"][0]["size"] == "toy"
    assert len(asked) == len(gpu.ORDER)
    assert {cell.size for cell in asked} == {"toy"}
