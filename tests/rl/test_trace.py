import torch

from salsa.rl.rollout import generate
from salsa.rl.trace import read_trace, trace_path, write_trace
from tests.rl.tiny import EOS, PAD, causal, texts


def test_a_trace_reads_as_it_was_written(tmp_path):
    noise = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    rollout = generate(causal(), texts(0, 6), eos=EOS, pad=PAD, max_new=9, temperature=1.0, noise=noise)
    path = trace_path(tmp_path / "trace", 8)
    write_trace(path, rollout)
    assert path.name == "step_00008.safetensors"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    found = read_trace(path)
    for wanted, field in zip(rollout.sequences, found.sequences, strict=True):
        assert torch.equal(field, wanted)
    assert torch.equal(found.logps, rollout.logps)
    assert torch.equal(found.ended, rollout.ended)
    content = path.read_bytes()
    write_trace(path, rollout)
    assert path.read_bytes() == content
