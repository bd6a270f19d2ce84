"""A key-value cache whose memory is taken once and into whose parts prompts can be read."""

from typing import Any

from torch import Tensor
from transformers import Cache, DynamicLayer, PretrainedConfig


class ReservedLayer(DynamicLayer):
    """The keys and values of one attention layer, [rows, heads, columns, head width], in memory of a fixed size.

    The library's dynamic layer copies everything it holds at every token. This one writes the new token behind the
    others and hands out views. Columns nobody has written are zero, never stray numbers, because a masked column is
    still multiplied (by zero).
    """

    is_croppable = False

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._shape = (rows, columns)
        self._rows = slice(0, rows)
        self._first = self._stop = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the memory, in the number format of the first keys and values."""
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, columns = self._shape
        self._all_keys = key_states.new_zeros(rows, key_states.shape[1], columns, key_states.shape[3])
        self._all_values = value_states.new_zeros(rows, value_states.shape[1], columns, value_states.shape[3])
        self.is_initialized = True

    def look_at(self, rows: slice, first: int, stop: int) -> None:
        """Make `rows` and the columns from `first` to `stop` what the next forward pass sees as the past."""
        self._rows, self._first, self._stop = rows, first, stop

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens behind the past; return past and new ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, self._stop = self._stop, self._stop + key_states.shape[2]
        self._all_keys[self._rows, :, begin : self._stop] = key_states
        self._all_values[self._rows, :, begin : self._stop] = value_states
        self.keys = self._all_keys[self._rows, :, self._first : self._stop]
        self.values = self._all_values[self._rows, :, self._first : self._stop]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of columns that the next forward pass sees as the past."""
        return self._stop - self._first

    def close_gaps(self, gaps: Tensor, movers: Tensor, left: int) -> None:
        """Move the rows `movers` to the rows `gaps` and see the first `left` rows only from now on."""
        for memory in (self._all_keys, self._all_values):
            memory[gaps, :, : self._stop] = memory[movers, :, : self._stop]
        self._rows = slice(0, left)


class ReservedCache(Cache):
    """`ReservedLayer`s for all layers of a model.

    Layers with a sliding window keep everything too: the library's masks hide what is outside the window, and replies
    are short against the windows of the models at hand.
    """

    def __init__(self, config: PretrainedConfig, rows: int, columns: int) -> None:
        layers = [ReservedLayer(rows, columns) for _ in range(config.get_text_config().num_hidden_layers)]
        super().__init__(layers=layers)

    def look_at(self, rows: slice, first: int, stop: int) -> None:
        """Make `rows` and the columns from `first` to `stop` what the next forward pass sees as the past."""
        for layer in self.layers:
            layer.look_at(rows, first, stop)

    def close_gaps(self, gaps: Tensor, movers: Tensor, left: int) -> None:
        """Move the rows `movers` to the rows `gaps` and see the first `left` rows only from now on.

        Only rows that move are copied, so that dropping finished rows is cheap however many are left.
        """
        for layer in self.layers:
            layer.close_gaps(gaps, movers, left)
