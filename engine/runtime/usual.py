"""What a trainer does where that of its objective does not do it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Usual:
    """Stands last among the bases of a trainer: what an objective's own class defines comes before it."""

    args: Any
    train_dataset: Any

    def groups_rows(self) -> bool:
        """Whether training puts rows of like length together: batches are padded, and rows have no part in what the
        loss says of others."""
        return True

    def groups_evaluation(self) -> bool:
        """Whether the batches of an evaluation are of one task type each: its figures are means over rows. Rows of like
        length are put together there as in training."""
        return True

    def try_rows(self, longest: Callable[[int], Any]) -> None:
        """One forward and backward pass on the longest rows; `longest(n)` gives n of them."""
        trainer: Any = self
        chosen = trainer._remove_unused_columns(longest(self.args.per_device_train_batch_size))
        batch = trainer.data_collator([chosen[place] for place in range(len(chosen))])
        num_items = trainer._get_num_items_in_batch([batch], self.args.device)
        trainer.training_step(trainer.model_wrapped, batch, num_items)

    def most_tokens(self, of_longest: Callable[[int], int]) -> int:
        """Tokens that are in memory at once at the most; `of_longest(n)` counts those of the n longest rows."""
        return of_longest(self.args.per_device_train_batch_size)

    def keep_beside(self, folder: Path) -> None:
        """Write into a checkpoint what the library does not save of this trainer; usually there is nothing."""

    def take_beside(self, folder: Path) -> None:
        """Go on from what `keep_beside` wrote."""

    def epoch_at(self, step: int, batch_size: int) -> float:
        """How many times the data has been gone through after this step, in batches of this size."""
        rows = self.args.gradient_accumulation_steps * self.args.per_device_train_batch_size
        accumulation, batches = rows // batch_size, -(-len(self.train_dataset) // batch_size)
        per_epoch = max(1, -(-batches // accumulation))
        whole, within = divmod(step, per_epoch)
        return float(whole + min(within * accumulation, batches) / batches)
