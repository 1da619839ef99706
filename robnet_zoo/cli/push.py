"""`robnet-zoo push`: a model to Hugging Face's hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from robnet_zoo.cli.parameters import Json, OptionalOutput, Quiet
from robnet_zoo.cli.starting import starting


def push(
    model: str,
    repository: str,
    *,
    weights: Path | None = None,
    output: OptionalOutput = None,
    private: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put a model on Hugging Face's hub, from where timm loads it as hf-hub:REPOSITORY.

    Its spec and card go along. Before anything is sent, timm loads what it wrote, and the weights are compared. The
    token is the one that `hf auth login` has stored, or HF_TOKEN.

    Args:
        model: A timm name (robnet_micro.cifar10), the folder of a training run or a conversion, or with --weights the
            path of a spec.
        repository: USER/NAME on the hub, which is made if it is not there.
        weights: A safetensors file for the model, instead of its own.
        output: Keep the files in this folder too.
        private: Make a private repository.
        dry_run: Do all but the sending, without a network.
    """
    with starting(shown=not (quiet or as_json)):
        from robnet_zoo.zoo.push import push as push_model

        report = push_model(model, repository, weights=weights, folder=output, private=private, dry_run=dry_run)
    if as_json or not quiet:
        print(json.dumps(report.model_dump(mode="json"), indent=1) if as_json else f"{repository}: {report}")
