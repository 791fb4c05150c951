import pytest

from sciembed_train.training.checkpoint_io import RunCheckpointIO
from sciembed_train.training.trainer import RunTrainer


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_every_strategy_writes_checkpoints_in_the_same_way(strategy):
    trainer = RunTrainer(
        strategy=strategy,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    assert isinstance(trainer.strategy.checkpoint_io, RunCheckpointIO)
