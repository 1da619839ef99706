"""The options of an export to ONNX."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.documents import Document, problems_error

OPSET = 22  # the newest that every supported ONNX Runtime can run
OLDEST_OPSET = 18
Count = Annotated[int, Field(ge=1)]
Precision = Literal["fp32", "fp16", "int8"]


class ExportOptions(Document):
    """How a model is written as an ONNX file."""

    precision: Annotated[
        Precision, Field(description="fp32; fp16 inside; or int8, calibrated on real images, a scale for each channel")
    ] = "fp32"
    opset: Annotated[int, Field(ge=OLDEST_OPSET, description="version of ONNX's operators")] = OPSET
    batch: Annotated[Count | None, Field(description="number of images in a batch; free if not given")] = None
    input_size: Annotated[
        tuple[Count, Count] | None, Field(strict=False, description="(height, width), instead of the spec's")
    ] = None
    calibration: Annotated[
        Count, Field(description="how many images, the first of the data, int8 takes its ranges from")
    ] = 512
    prove: Annotated[bool, Field(description="run the file and compare its logits with torch's")] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.opset > OPSET:
            import onnx  # not at the top, where every command would wait for it

            newest = onnx.defs.onnx_opset_version()
            if self.opset > newest:
                raise problems_error([(("opset",), f"expected at most {newest}, got {self.opset}")])
        return self
