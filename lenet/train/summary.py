"""The summary of a network: of a packaged name, a configuration or a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.model_section import Model
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.models.packaged import MODELS
from lenet.models.specification import Specification, built_layers
from lenet.nn.summary import LayerSummary, summarize, to_table


class Summary:
    """What ``lenet summary`` shows of a network."""

    def __init__(self, model: Model, specification: Specification) -> None:
        self.model, self.specification = model, specification
        layers = built_layers(specification.layers, specification.input_shape)
        self.rows: list[LayerSummary] = summarize(layers, specification.input_shape)
        self.parameters = sum(row.weights for row in self.rows)

    @classmethod
    def of(cls, source: Path | None, file: Path | None, overrides: tuple[str, ...]) -> Summary:
        """Return the summary of what the command line names."""
        if source is None:
            config = load_config(file, overrides).for_named_data()
        elif str(source) in MODELS:
            config = Config().with_values({"model.name": str(source)})
        elif source.suffix in (".yaml", ".yml"):
            config = load_config(source).for_named_data()
        else:
            checkpoint = read_checkpoint(source)
            return cls(checkpoint.config.model, checkpoint.model)
        return cls(config.model, config.model.specification())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as a JSON object."""
        return {
            "schema_version": 1,
            "model": asdict(self.model),
            "input_shape": list(self.specification.input_shape),
            "parameters": self.parameters,
            "layers": [{"name": row.layer, **asdict(row)} for row in self.rows],
            "totals": {
                "weights": self.parameters,
                "multiply_adds": sum(row.multiply_adds for row in self.rows),
                "connections": sum(row.connections for row in self.rows),
            },
        }

    def to_text(self) -> str:
        """Return a title and the table."""
        return f"{self._title()}\n\n{to_table(self.rows)}"

    def _title(self) -> str:
        model = self.model
        images = f"{'×'.join(map(str, self.specification.input_shape))} images"
        if model.layers is not None:
            return f"{len(self.rows)} layers for {images}"
        if model.name == "lenet5":
            return f"LeNet-5 of {images}, {model.activation}, {model.pooling} pooling"
        return f"{model.name} of {images}"
