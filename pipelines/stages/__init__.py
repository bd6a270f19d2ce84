"""One file a stage; each has `run(work)`, which reads its inputs, writes its folder and returns its metrics."""
