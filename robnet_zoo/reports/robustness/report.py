"""The sections of a report of results documents: one for whatever they hold, none for what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robnet_zoo.benchmarks.checks.results import from_results
from robnet_zoo.benchmarks.exports import ExportedForm, ExportsResult
from robnet_zoo.benchmarks.result import ModelIdentity, Result
from robnet_zoo.core.wording import counted
from robnet_zoo.reports.alarms import alarm_groups
from robnet_zoo.reports.elements import Notice, NoticeGroup, Notices, Particular, Record, Report, Section
from robnet_zoo.reports.robustness import charts, exports, tables
from robnet_zoo.reports.robustness.comparisons import COMPARED, comparisons
from robnet_zoo.reports.robustness.gallery import gallery
from robnet_zoo.reports.robustness.labelled import (
    CLEAN,
    WORST,
    LabelledResult,
    labelled,
    parameters_of,
    proposing,
)
from robnet_zoo.reports.robustness.precisions import precisions

TITLE = "Robustness report"


def robustness_report(results: Sequence[Result], exported: Sequence[ExportsResult] = ()) -> Report:
    """Return the report of results documents. Nothing is computed anew.

    Args:
        exported: documents of the exports of models, whose sizes, latencies and parities stand beside accuracies; each
            counts once.

    Raises: ReportError where no document holds a measured image, and for an example that is not a picture.
    """
    entries = labelled(results)
    exported = [document for index, document in enumerate(exported) if document not in exported[:index]]
    forms = {form.model.weights: form for document in exported for form in document.forms}
    rows = tuple(_figures(entry, name) | _export(entry, forms) for entry in entries for name in entry.measurements)
    return Report(TITLE, overview(entries), tuple(sections(entries, exported)), rows)


def sections(entries: Sequence[LabelledResult], exported: Sequence[ExportsResult] = ()) -> list[Section]:
    """Return all sections with something in them, in the order in which they are read."""
    white_box = [entry for entry in entries if entry.white_box]
    transfer = [entry for entry in entries if not entry.white_box]
    whole = [entry for entry in white_box if entry.whole]
    compared, parts, pictures = comparisons(entries), tables.parts(entries), gallery(entries)
    radii = tables.radii(white_box)
    candidates = (
        ("alarms", "Alarms", "", (notices(entries),)),
        (
            "summary",
            "Summary",
            "",
            (*([tables.summary(white_box)] if white_box else []), *(table for table in (radii, parts) if table)),
        ),
        (
            "paper",
            "Beside the paper",
            "Printed figures come from other weights, trained and attacked by the paper's authors.",
            tables.beside_the_paper(entries),
        ),
        (
            "exports",
            "Exports",
            "What a model loses by being shipped as a file, and what it gains.",
            exports.exports(exported, entries),
        ),
        (
            "precisions",
            "Precision",
            "A model beside the ONNX files that were exported from it.",
            precisions([entry for entry in entries if not exports.is_in(entry, exported)]),
        ),
        (
            "comparisons",
            "Paired comparisons",
            COMPARED,
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
    return [Section(key, title, intro, tuple(elements)) for key, title, intro, elements in candidates if elements]


def notices(entries: Sequence[LabelledResult]) -> Notices:
    """Return the alarms, then warnings of wrapped libraries, then incomplete documents and unconfirmed successes."""
    alarms = [(_which(entry), alarm) for entry in entries for alarm in entry.result.alarms]
    alarms += [("", alarm) for alarm in from_results([entry.result for entry in entries])]
    groups = alarm_groups(alarms)
    warnings = tuple(
        Notice(_which(entry), f"{name}: {flag}")
        for entry in entries
        for name, measurement in entry.measurements.items()
        for flag in measurement.flags
    )
    if warnings:
        groups.append(NoticeGroup("warning", "A library that was attacked with warned of this.", warnings))
    partial = tuple(Notice(_which(entry), _missing(entry)) for entry in entries if not entry.whole)
    if partial:
        meaning = (
            "Documents without all images are only in tables of all documents: not in charts, nor beside the paper."
        )
        groups.append(NoticeGroup("incomplete", meaning, partial))
    groups += _unconfirmed(entries)
    return Notices(tuple(groups), "No alarms: no check gives a reason to doubt a figure.")


def _unconfirmed(entries: Sequence[LabelledResult]) -> list[NoticeGroup]:
    """Return the note that counts successes that the original did not confirm, if there are any."""
    notices, successes, images, measured = [], 0, 0, 0
    for entry in entries:
        counts = {name: each.unconfirmed for name, each in entry.measurements.items() if any(each.unconfirmed)}
        if counts:
            by_attack = [
                f"{name} {sum(each)} on {sum(map(bool, each))} of {len(each):,}" for name, each in counts.items()
            ]
            notices.append(Notice(_which(entry), f"{', '.join(by_attack)} images."))
            successes += sum(map(sum, counts.values()))
            images += sum(sum(map(bool, each)) for each in counts.values())
            measured += sum(map(len, counts.values()))
    if not notices:
        return []
    meaning = (
        f"In {images:,} of {counted(measured, 'outcome')} the model itself did not confirm successes, "
        f"{successes:,} in all; they count as none."
    )
    return [NoticeGroup("note", meaning, tuple(notices), serious=False)]


def record(entry: LabelledResult) -> Record:
    """Return everything that says how a document came about."""
    result, protocol = entry.result, entry.result.protocol
    particulars = [*_identity("model", result.model)]
    if result.provenance is not None:
        particulars.append(Particular("provenance", result.provenance))
    if result.source is not None:
        particulars += _identity("source", result.source)
    particulars += [
        Particular("data", f"{result.data.name}, {counted(result.data.n, 'image')}"),
        Particular("data sha256", result.data.sha256, hash=True),
        Particular("protocol", " – ".join(filter(None, (protocol.name, protocol.description)))),
        Particular("threat", protocol.threat.replace("_", " ")),
        Particular("eps", protocol.eps),
        Particular("seed", str(protocol.seed)),
        Particular("batch", str(protocol.batch)),
        Particular("proposes in", proposing(protocol)),
    ]
    for attack in protocol.attacks:
        parameters = ", ".join(f"{key} {value}" for key, value in parameters_of(attack).items())
        particulars.append(Particular(f"attack {attack.title}", parameters))
    software = ", ".join(f"{name} {version}" for name, version in result.software.items())
    particulars += [Particular("software", software), Particular("device", result.device)]
    if not entry.whole:
        particulars.append(Particular("incomplete", _missing(entry)))
    return Record(f"{_who(entry)} · {protocol.name} · {entry.conditions}", tuple(particulars))


def overview(entries: Sequence[LabelledResult]) -> str:
    """Return what the report is about, in a line."""
    documents = counted(len(entries), "results document")
    data = dict.fromkeys(f"{entry.data} ({counted(entry.result.data.n, 'image')})" for entry in entries)
    eps = {entry.result.protocol.eps: entry.result.protocol.eps_value for entry in entries}
    return " · ".join((documents, *data, f"eps {', '.join(sorted(eps, key=lambda text: eps[text]))}"))


def _identity(role: str, model: ModelIdentity) -> list[Particular]:
    parameters = "" if model.parameters is None else f", {model.parameters:,} parameters"
    particulars = [Particular(role, f"{model.name} ({model.kind}{parameters})")]
    if model.spec_hash is not None:
        particulars.append(Particular(f"{role} spec hash", model.spec_hash, hash=True))
    for kind, sha256 in (("state", model.state_sha256), ("file", model.file_sha256)):
        if sha256 is not None:
            particulars.append(Particular(f"{role} {kind} sha256", sha256, hash=True))
    if model.precision is not None:
        particulars.append(Particular(f"{role} precision", model.precision))
    if model.exported_from is not None:
        particulars.append(Particular(f"{role} exported from weights", model.exported_from, hash=True))
    if model.mean is not None and model.std is not None:
        text = f"mean {', '.join(map(str, model.mean))}; std {', '.join(map(str, model.std))}"
        particulars.append(Particular(f"{role} normalises with", text))
    return particulars


def _who(entry: LabelledResult) -> str:
    return f"{entry.model} from {entry.source}" if entry.source else entry.model


def _which(entry: LabelledResult) -> str:
    return f"{_who(entry)}, {entry.conditions}"


def _missing(entry: LabelledResult) -> str:
    shard = entry.result.shard
    part = f"shard {shard.index + 1} of {shard.count}, " if shard is not None else ""
    return f"{part}{entry.n:,} of {counted(entry.result.data.n, 'image')}."


def _export(entry: LabelledResult, forms: Mapping[str, ExportedForm]) -> dict[str, object]:
    """Return the columns of the CSV file that only exports have; none where there are no exports at all."""
    if not forms:
        return {}
    form = forms.get(entry.result.model.weights)
    columns = exports.figures(form or next(iter(forms.values())))
    return columns if form else dict.fromkeys(columns)


def _figures(entry: LabelledResult, name: str) -> dict[str, object]:
    """Return a row of the CSV file, for one document and attack.

    n: images measured; right, accuracy, low, high: of them, 95 % Wilson. forwards, backwards, judged and unconfirmed
    are sums; eps of clean images is None, and so is whatever is not known.
    """
    result, measurement = entry.result, entry.measurements[name]
    low, high = measurement.interval
    source = result.source
    return {
        "model": result.model.name,
        "source": source.name if source else None,
        "threat": result.protocol.threat,
        "protocol": result.protocol.name,
        "attack": measurement.attack if name == WORST else name,
        "n": len(measurement.correct),
        "right": sum(measurement.correct),
        "accuracy": measurement.accuracy,
        "low": low,
        "high": high,
        "norm": entry.attacks[name].ball if name in entry.attacks else None,
        "eps": None if name == CLEAN else result.protocol.eps,
        "seed": result.protocol.seed,
        "data": result.data.name,
        "data_sha256": result.data.sha256,
        "parameters": result.model.parameters,
        "spec_hash": result.model.spec_hash,
        "state_sha256": result.model.state_sha256,
        "file_sha256": result.model.file_sha256,
        "source_sha256": source.weights if source else None,
        "whole": int(entry.whole),
        "forwards": sum(measurement.forwards) if measurement.forwards else None,
        "backwards": sum(measurement.backwards) if measurement.backwards else None,
        "judged": sum(measurement.judged) if measurement.judged else None,
        "unconfirmed": sum(measurement.unconfirmed) if measurement.unconfirmed else None,
        "seconds": measurement.seconds,
        "device": result.device,
    }
