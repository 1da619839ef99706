"""What stands where in a report: a section for whatever the documents hold, nothing for what they do not."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.result import ModelIdentity
from robnet_zoo.reports.robustness import charts, tables
from robnet_zoo.reports.robustness.blocks import Notice, Notices, Record, Section
from robnet_zoo.reports.robustness.entries import Entry, parameters_of, proposing
from robnet_zoo.reports.robustness.pictures import gallery
from robnet_zoo.reports.robustness.precisions import precisions


def sections(entries: Sequence[Entry]) -> list[Section]:
    """All sections with something in them, in the order in which they are read."""
    white_box = [entry for entry in entries if entry.white_box]
    transfer = [entry for entry in entries if not entry.white_box]
    whole = [entry for entry in white_box if entry.whole]
    compared, parts, pictures = tables.comparisons(entries), tables.parts(entries), gallery(entries)
    found = (
        ("alarms", "Alarms", "", (notices(entries),)),
        ("summary", "Summary", "", (*([tables.summary(white_box)] if white_box else []), *([parts] if parts else []))),
        (
            "paper",
            "Beside the paper",
            "Printed figures come from other weights, trained and attacked by the paper's authors.",
            tables.beside_the_paper(entries),
        ),
        ("precisions", "Precision", "A model beside the ONNX files that were exported from it.", precisions(entries)),
        (
            "comparisons",
            "Paired comparisons",
            "Models measured on the same images, compared image by image.",
            (compared,) if compared else (),
        ),
        ("parameters", "Robustness and size", "", charts.against_parameters(whole)),
        ("steps", "Robustness and the attack's length", "", charts.against_steps(whole)),
        ("eps", "Robustness and eps", "", charts.against_eps(whole)),
        (
            "transfer",
            "Transfer",
            "Images made against a source model, judged by a target model.",
            (*tables.transfer_matrices(transfer), tables.transfers(transfer)) if transfer else (),
        ),
        ("cost", "Cost", "", (tables.cost(entries),)),
        (
            "pictures",
            "What the model sees",
            "The difference is enlarged around grey, by the factor that stands below it.",
            (pictures,) if pictures else (),
        ),
        ("provenance", "Provenance", "", tuple(map(record, entries))),
    )
    return [Section(key, title, intro, tuple(blocks)) for key, title, intro, blocks in found if blocks]


def notices(entries: Sequence[Entry]) -> Notices:
    """Alarms first, then what wrapped libraries warned of, then incomplete documents and unconfirmed successes."""
    found: list[Notice] = []
    for entry in entries:
        found += [
            Notice(alarm.name, _which(entry), alarm.text, alarms.kind_of(alarm).meaning)
            for alarm in entry.result.alarms
        ]
    together = alarms.from_results([entry.result for entry in entries])
    found += [Notice(alarm.name, "", alarm.text, alarms.kind_of(alarm).meaning) for alarm in together]
    for entry in entries:
        for name, measurement in entry.measurements.items():
            found += [Notice("warning", _which(entry), f"{name}: {flag}") for flag in measurement.flags]
    for entry in entries:
        if not entry.whole:
            found.append(Notice("incomplete", _which(entry), _missing(entry)))
    for entry in entries:
        counts = {name: measurement.unconfirmed for name, measurement in entry.measurements.items()}
        told = [
            f"{name} {sum(each)} on {sum(map(bool, each))} of {len(each):,}"
            for name, each in counts.items()
            if sum(each)
        ]
        if told:
            text = f"Successes that the original did not confirm, which count as none: {', '.join(told)} images."
            found.append(Notice("note", _which(entry), text, serious=False))
    return Notices(tuple(found), "No alarms: nothing in these documents says that a figure is not what it seems.")


def record(entry: Entry) -> Record:
    """Everything that says how a document came about."""
    result, protocol = entry.result, entry.result.protocol
    fields: list[tuple[str, str, bool]] = [*_identity("model", result.model)]
    if result.provenance is not None:
        fields.append(("provenance", result.provenance, False))
    if result.source is not None:
        fields += _identity("source", result.source)
    fields += [
        ("data", f"{result.data.name}, {result.data.n:,} images", False),
        ("data sha256", result.data.sha256, True),
        ("protocol", " – ".join(filter(None, (protocol.name, protocol.description))), False),
        ("threat", protocol.threat.replace("_", " "), False),
        ("eps", protocol.eps, False),
        ("seed", str(protocol.seed), False),
        ("batch", str(protocol.batch), False),
        ("proposes in", proposing(protocol), False),
    ]
    for attack in protocol.attacks:
        parameters = ", ".join(f"{key} {value}" for key, value in parameters_of(attack).items())
        fields.append((f"attack {attack.title}", parameters, False))
    fields.append(("software", ", ".join(f"{name} {version}" for name, version in result.software.items()), False))
    fields.append(("device", result.device, False))
    if not entry.whole:
        fields.append(("incomplete", _missing(entry), False))
    return Record(f"{_who(entry)} · {protocol.name} · {entry.conditions}", tuple(fields))


def _identity(role: str, model: ModelIdentity) -> list[tuple[str, str, bool]]:
    parameters = "" if model.parameters is None else f", {model.parameters:,} parameters"
    fields = [(role, f"{model.name} ({model.kind}{parameters})", False)]
    if model.spec_hash is not None:
        fields.append((f"{role} spec hash", model.spec_hash, True))
    for kind, sha256 in (("state", model.state_sha256), ("file", model.file_sha256)):
        if sha256 is not None:
            fields.append((f"{role} {kind} sha256", sha256, True))
    if model.precision is not None:
        fields.append((f"{role} precision", model.precision, False))
    if model.exported_from is not None:
        fields.append((f"{role} exported from weights", model.exported_from, True))
    if model.mean is not None and model.std is not None:
        text = f"mean {', '.join(map(str, model.mean))}; std {', '.join(map(str, model.std))}"
        fields.append((f"{role} normalises with", text, False))
    return fields


def _who(entry: Entry) -> str:
    return f"{entry.model} from {entry.source}" if entry.source else entry.model


def _which(entry: Entry) -> str:
    return f"{_who(entry)}, {entry.conditions}"


def _missing(entry: Entry) -> str:
    shard = entry.result.shard
    part = f"shard {shard.index + 1} of {shard.count}, " if shard is not None else ""
    where = "in tables of all documents alone: not in charts, nor beside the paper"
    return f"{part}{entry.n:,} of {entry.result.data.n:,} images; it stands {where}."


def overview(entries: Sequence[Entry]) -> str:
    """What the report is of, in a line."""
    documents = f"{len(entries)} results document{'s' if len(entries) > 1 else ''}"
    data = dict.fromkeys(f"{entry.data} ({entry.result.data.n:,} images)" for entry in entries)
    eps = {entry.result.protocol.eps: entry.result.protocol.eps_value for entry in entries}
    return " · ".join((documents, *data, f"eps {', '.join(sorted(eps, key=lambda text: eps[text]))}"))
