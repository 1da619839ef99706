"""Published architectures in other projects' forms, by name: what each is, and where and when it was published.

`GENOTYPES` are in DARTS' form. `MSROBNETS` are texts of aw_nas, which `robnet_zoo.converters.msrobnet` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from robnet_zoo.genotype.genotype import Provenance


@dataclass(frozen=True)
class PublishedGenotype:
    """A bundled genotype of DARTS' form, and where it is from.

    Args:
        title: its name in the literature.
        genotype: the four fields of DARTS' named tuple.
        source: where it was read, in words.
        paper: where it was published.
        year: when.
        robust: whether it was searched for adversarial robustness.
    """

    title: str
    genotype: Mapping[str, Any]
    source: str
    paper: str
    year: int
    robust: bool = False

    @property
    def provenance(self) -> Provenance:
        """Return the provenance of the spec."""
        return Provenance(source=self.source, paper=self.paper)


@dataclass(frozen=True)
class PublishedAccuracy:
    """What somebody reports of an architecture on CIFAR-10, in percent, l-infinity, 8/255.

    Args:
        name: of the architecture.
        size: of the network, in words.
        training: how the network was trained.
        accuracies: by attack, `clean` without one.
        reporter: who reports it, and where.
        own: whether they are the architecture's authors.
    """

    name: str
    size: str
    training: str
    accuracies: Mapping[str, float]
    reporter: str
    own: bool = False


@dataclass(frozen=True)
class PublishedMsrobnet:
    """A bundled genotype of aw_nas.

    Args:
        title: its name in the literature.
        text: the genotype, as its authors print it.
        layout: the cell at each depth, by its number.
        channels: of a node in the first cell, where the authors published it.
    """

    title: str
    text: str
    layout: tuple[int, ...]
    channels: int | None


def _genotype(
    normal: str, reduce: str, *, concat: tuple[tuple[int, ...], tuple[int, ...]] = ((2, 3, 4, 5), (2, 3, 4, 5))
) -> Mapping[str, Any]:
    """Return a genotype from cells written as `operation source`, two for each node. concat: of either cell."""

    def entries(cell: str) -> tuple[tuple[str, int], ...]:
        words = cell.split()
        return tuple((name, int(source)) for name, source in zip(words[::2], words[1::2], strict=True))

    fields = {"normal": entries(normal), "normal_concat": concat[0]}
    return MappingProxyType(fields | {"reduce": entries(reduce), "reduce_concat": concat[1]})


_DARTS = "H. Liu, K. Simonyan, Y. Yang, DARTS: Differentiable Architecture Search, ICLR 2019 (arXiv:1806.09055)"
_PC_DARTS = (
    "Y. Xu, L. Xie, X. Zhang, X. Chen, G.-J. Qi, Q. Tian, H. Xiong, PC-DARTS: Partial Channel Connections for "
    "Memory-Efficient Architecture Search, ICLR 2020 (arXiv:1907.05737)"
)
_WSRNET = (
    "Z. Cheng, Y. Li, M. Dong, X. Su, S. You, C. Xu, Neural Architecture Search for Wide Spectrum Adversarial "
    "Robustness, AAAI 2023"
)
_RNAS = (
    "Y. Qian, S. Huang, B. Wang, X. Ling, X. Guan, Z. Gu, S. Zeng, W. Zhou, H. Wang, Robust Network Architecture "
    "Search via Feature Distortion Restraining, ECCV 2022"
)
_TRNAS = (
    "Y. Yang, Q. Zhu, J. Luo, K.-C. Wong, Q. Lin, J. Li, TRNAS: A Training-Free Robust Neural Architecture Search, "
    "ICCV 2025"
)
_LRNAS = (
    "Y. Feng, Z. Lv, H. Chen, S. Gao, F. An, Y. Sun, LRNAS: Differentiable Searching for Adversarially Robust "
    "Lightweight Neural Architecture, IEEE TNNLS 36(3), 2025 (doi:10.1109/TNNLS.2024.3382724)"
)
GENOTYPES: Mapping[str, PublishedGenotype] = MappingProxyType(
    {
        "darts_v1": PublishedGenotype(
            "DARTS, first order",
            _genotype(
                "sep_conv_3x3 1 sep_conv_3x3 0  skip_connect 0 sep_conv_3x3 1"
                "  skip_connect 0 sep_conv_3x3 1  sep_conv_3x3 0 skip_connect 2",
                "max_pool_3x3 0 max_pool_3x3 1  skip_connect 2 max_pool_3x3 0"
                "  max_pool_3x3 0 skip_connect 2  skip_connect 2 avg_pool_3x3 0",
            ),
            "genotype DARTS_V1 of the authors' code: first-order approximation",
            _DARTS,
            year=2019,
        ),
        "darts_v2": PublishedGenotype(
            "DARTS, second order",
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_3x3 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 skip_connect 0  skip_connect 0 dil_conv_3x3 2",
                "max_pool_3x3 0 max_pool_3x3 1  skip_connect 2 max_pool_3x3 1"
                "  max_pool_3x3 0 skip_connect 2  skip_connect 2 max_pool_3x3 1",
            ),
            "genotype DARTS_V2 of the authors' code: second-order approximation",
            _DARTS,
            year=2019,
        ),
        "pdarts": PublishedGenotype(
            "P-DARTS",
            _genotype(
                "skip_connect 0 dil_conv_3x3 1  skip_connect 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 sep_conv_3x3 3  sep_conv_3x3 0 dil_conv_5x5 4",
                "avg_pool_3x3 0 sep_conv_5x5 1  sep_conv_3x3 0 dil_conv_5x5 2"
                "  max_pool_3x3 0 dil_conv_3x3 1  dil_conv_3x3 1 dil_conv_5x5 3",
            ),
            "genotype PDARTS of the authors' code, searched on CIFAR-10",
            "X. Chen, L. Xie, J. Wu, Q. Tian, Progressive Differentiable Architecture Search: Bridging the Depth Gap "
            "between Search and Evaluation, ICCV 2019 (arXiv:1904.12760)",
            year=2019,
        ),
        "pc_darts": PublishedGenotype(
            "PC-DARTS",
            _genotype(
                "sep_conv_3x3 1 skip_connect 0  sep_conv_3x3 0 dil_conv_3x3 1"
                "  sep_conv_5x5 0 sep_conv_3x3 1  avg_pool_3x3 0 dil_conv_3x3 1",
                "sep_conv_5x5 1 max_pool_3x3 0  sep_conv_5x5 1 sep_conv_5x5 2"
                "  sep_conv_3x3 0 sep_conv_3x3 3  sep_conv_3x3 1 sep_conv_3x3 2",
            ),
            "genotype PC_DARTS_cifar of the authors' code, searched on CIFAR-10",
            _PC_DARTS,
            year=2020,
        ),
        "pc_darts_imagenet": PublishedGenotype(
            "PC-DARTS, ImageNet",
            _genotype(
                "skip_connect 1 sep_conv_3x3 0  sep_conv_3x3 0 skip_connect 1"
                "  sep_conv_3x3 1 sep_conv_3x3 3  sep_conv_3x3 1 dil_conv_5x5 4",
                "sep_conv_3x3 0 skip_connect 1  dil_conv_5x5 2 max_pool_3x3 1"
                "  sep_conv_3x3 2 sep_conv_3x3 1  sep_conv_5x5 0 sep_conv_3x3 3",
            ),
            "genotype PC_DARTS_image of the authors' code, searched on ImageNet",
            _PC_DARTS,
            year=2020,
        ),
        "advrush": PublishedGenotype(
            "AdvRush",
            _genotype(
                "sep_conv_3x3 1 sep_conv_3x3 0  sep_conv_5x5 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 sep_conv_3x3 0  skip_connect 0 sep_conv_3x3 1",
                "sep_conv_3x3 0 sep_conv_3x3 1  skip_connect 0 dil_conv_3x3 2"
                "  skip_connect 0 avg_pool_3x3 1  skip_connect 0 skip_connect 2",
            ),
            "genotype ADVRUSH of the authors' code",
            "J. Mok, B. Na, H. Choe, S. Yoon, AdvRush: Searching for Adversarially Robust Neural Architectures, "
            "ICCV 2021 (arXiv:2108.01289)",
            year=2021,
            robust=True,
        ),
        "racl": PublishedGenotype(
            "RACL",
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_5x5 0 skip_connect 1"
                "  sep_conv_3x3 0 skip_connect 3  sep_conv_3x3 3 skip_connect 4",
                "sep_conv_3x3 0 sep_conv_5x5 1  avg_pool_3x3 0 dil_conv_3x3 1"
                "  sep_conv_3x3 0 sep_conv_5x5 1  sep_conv_3x3 2 dil_conv_3x3 3",
            ),
            "genotype RACL in the code of AdvRush's authors; its own authors' code is not known to be public",
            "M. Dong, Y. Li, Y. Wang, C. Xu, Adversarially Robust Neural Architectures (arXiv:2009.00902)",
            year=2020,
            robust=True,
        ),
        "wsrnet_basic": PublishedGenotype(
            "WsrNet-Basic",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_5x5 2 dil_conv_3x3 3  avg_pool_3x3 1 sep_conv_5x5 0",
                "sep_conv_3x3 1 dil_conv_5x5 0  avg_pool_3x3 2 max_pool_3x3 1"
                "  sep_conv_3x3 1 dil_conv_5x5 2  sep_conv_3x3 4 avg_pool_3x3 2",
            ),
            "genotype cna_r of the authors' code, which their script for WsrNet-Basic trains",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "wsrnet_r": PublishedGenotype(
            "WsrNet-R",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_5x5 2 dil_conv_3x3 3  avg_pool_3x3 1 sep_conv_5x5 0",
                "sep_conv_3x3 1 dil_conv_5x5 0  avg_pool_3x3 2 max_pool_3x3 1"
                "  sep_conv_3x3 1 dil_conv_5x5 2  sep_conv_3x3 4 avg_pool_3x3 2",
            ),
            "genotype cna_r of the authors' code, which their script for WsrNet-Robust trains with other batches",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "wsrnet_m": PublishedGenotype(
            "WsrNet-M",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_5x5 2 dil_conv_3x3 3  avg_pool_3x3 1 sep_conv_3x3 0",
                "sep_conv_3x3 1 dil_conv_5x5 0  max_pool_3x3 1 avg_pool_3x3 2"
                "  dil_conv_5x5 2 sep_conv_3x3 1  sep_conv_3x3 4 avg_pool_3x3 2",
            ),
            "genotype cna_m of the authors' code",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "wsrnet_m_1": PublishedGenotype(
            "WsrNet-M-1",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_5x5 2 dil_conv_3x3 3  sep_conv_5x5 0 avg_pool_3x3 1",
                "sep_conv_3x3 1 dil_conv_3x3 0  avg_pool_3x3 2 max_pool_3x3 1"
                "  sep_conv_3x3 1 dil_conv_5x5 2  sep_conv_3x3 4 max_pool_3x3 2",
            ),
            "genotype cna_m_1 of the authors' code",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "wsrnet_n": PublishedGenotype(
            "WsrNet-N",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_5x5 2 dil_conv_3x3 3  max_pool_3x3 0 skip_connect 4",
                "dil_conv_5x5 0 sep_conv_3x3 1  max_pool_3x3 1 avg_pool_3x3 2"
                "  dil_conv_5x5 2 dil_conv_3x3 3  max_pool_3x3 2 dil_conv_3x3 0",
            ),
            "genotype cna_n of the authors' code",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "wsrnet_plus": PublishedGenotype(
            "WsrNet-Plus",
            _genotype(
                "dil_conv_3x3 0 dil_conv_3x3 1  dil_conv_5x5 0 avg_pool_3x3 1"
                "  dil_conv_3x3 3 dil_conv_5x5 2  sep_conv_5x5 0 avg_pool_3x3 1",
                "sep_conv_3x3 1 dil_conv_3x3 0  avg_pool_3x3 2 max_pool_3x3 1"
                "  sep_conv_3x3 1 dil_conv_5x5 2  sep_conv_3x3 4 max_pool_3x3 2",
            ),
            "genotype WsrNet_Plus of the authors' code",
            _WSRNET,
            year=2023,
            robust=True,
        ),
        "rnas_h": PublishedGenotype(
            "RNAS-H",
            _genotype(
                "dil_conv_5x5 0 dil_conv_5x5 1  dil_conv_5x5 0 dil_conv_3x3 1"
                "  dil_conv_5x5 3 sep_conv_5x5 0  dil_conv_5x5 0 dil_conv_3x3 2",
                "avg_pool_3x3 1 dil_conv_5x5 0  dil_conv_5x5 2 sep_conv_5x5 0"
                "  sep_conv_3x3 3 skip_connect 0  sep_conv_5x5 0 sep_conv_5x5 4",
            ),
            "genotype RNAS in the code of LRNAS's authors, who compare with it",
            _RNAS,
            year=2022,
            robust=True,
        ),
        "rnas_l": PublishedGenotype(
            "RNAS-L",
            _genotype(
                "dil_conv_5x5 0 dil_conv_5x5 1  skip_connect 2 dil_conv_5x5 0"
                "  sep_conv_5x5 0 sep_conv_3x3 1  avg_pool_3x3 0 skip_connect 2",
                "sep_conv_5x5 0 sep_conv_3x3 1  sep_conv_5x5 2 sep_conv_3x3 1"
                "  dil_conv_3x3 3 dil_conv_5x5 2  sep_conv_5x5 3 sep_conv_3x3 2",
            ),
            "genotype RNAS_L of the authors' code",
            _RNAS,
            year=2022,
            robust=True,
        ),
        "e2rnas": PublishedGenotype(
            "E2RNAS",
            _genotype(
                "avg_pool_3x3 0 skip_connect 1  avg_pool_3x3 0 sep_conv_3x3 2"
                "  sep_conv_5x5 3 avg_pool_3x3 0  avg_pool_3x3 0 sep_conv_5x5 2",
                "avg_pool_3x3 0 avg_pool_3x3 1  avg_pool_3x3 0 avg_pool_3x3 1"
                "  avg_pool_3x3 0 skip_connect 3  avg_pool_3x3 0 skip_connect 3",
            ),
            "genotype E2RNAS in the code of LRNAS's authors, who compare with it",
            "Z. Yue, B. Lin, X. Huang, Y. Zhang, Effective, Efficient and Robust Neural Architecture Search "
            "(arXiv:2011.09820)",
            year=2020,
            robust=True,
        ),
        "rep": PublishedGenotype(
            "REP",
            _genotype(
                "skip_connect 1 dil_conv_3x3 0  dil_conv_3x3 1 sep_conv_3x3 0"
                "  sep_conv_3x3 3 dil_conv_5x5 1  dil_conv_3x3 3 sep_conv_3x3 4",
                "sep_conv_3x3 1 sep_conv_5x5 0  sep_conv_5x5 1 sep_conv_3x3 2"
                "  sep_conv_3x3 2 sep_conv_5x5 1  max_pool_3x3 4 max_pool_3x3 3",
            ),
            "genotype REP_PGD in the code of TRNAS's authors, who compare with it",
            "Y. Feng, Y. Sun, G. G. Yen, K. C. Tan, REP: An Interpretable Robustness Enhanced Plugin for "
            "Differentiable Neural Architecture Search, IEEE TKDE 2025",
            year=2025,
            robust=True,
        ),
        "rntk": PublishedGenotype(
            "RNTK",
            _genotype(
                "sep_conv_3x3 0 sep_conv_5x5 1  sep_conv_3x3 0 dil_conv_5x5 1"
                "  skip_connect 2 sep_conv_3x3 3  dil_conv_3x3 2 skip_connect 4",
                "avg_pool_3x3 0 sep_conv_3x3 1  dil_conv_5x5 2 sep_conv_3x3 1"
                "  avg_pool_3x3 0 skip_connect 3  max_pool_3x3 4 skip_connect 1",
            ),
            "genotype RNTK in the code of TRNAS's authors, who compare with it; the kernel of that name is this "
            "paper's",
            "Y. Wu, F. Liu, C.-J. Simon-Gabriel, G. Chrysos, V. Cevher, Robust NAS under Adversarial Training: "
            "Benchmark, Theory, and Beyond, ICLR 2024 (arXiv:2403.13134)",
            year=2024,
            robust=True,
        ),
        "trnas_c10": PublishedGenotype(
            "TRNAS-C10",
            _genotype(
                "sep_conv_5x5 0 sep_conv_5x5 1  sep_conv_5x5 1 skip_connect 0"
                "  avg_pool_3x3 1 sep_conv_5x5 3  skip_connect 1 sep_conv_5x5 4",
                "sep_conv_5x5 0 sep_conv_5x5 1  sep_conv_5x5 0 sep_conv_5x5 1"
                "  sep_conv_5x5 0 sep_conv_5x5 1  sep_conv_5x5 1 sep_conv_5x5 3",
            ),
            "genotype TRNAS_c10 of the authors' code, searched on CIFAR-10",
            _TRNAS,
            year=2025,
            robust=True,
        ),
        "trnas_imagenet": PublishedGenotype(
            "TRNAS-ImageNet",
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_3x3 0 sep_conv_3x3 1"
                "  skip_connect 0 sep_conv_5x5 1  dil_conv_5x5 3 sep_conv_3x3 1",
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_3x3 2 sep_conv_3x3 0"
                "  sep_conv_5x5 0 sep_conv_5x5 2  sep_conv_5x5 4 sep_conv_5x5 0",
            ),
            "genotype TRNAS_imagenet of the authors' code, searched on ImageNet",
            _TRNAS,
            year=2025,
            robust=True,
        ),
        "lrnas_c10": PublishedGenotype(
            "LRNAS-C10",
            _genotype(
                "max_pool_3x3 1 avg_pool_3x3 0  sep_conv_3x3 1 skip_connect 0"
                "  sep_conv_3x3 2 avg_pool_3x3 1  max_pool_3x3 3 max_pool_3x3 0",
                "none 0 none 1  sep_conv_5x5 2 max_pool_3x3 0  avg_pool_3x3 2 skip_connect 1"
                "  max_pool_3x3 3 skip_connect 4",
            ),
            "genotype search_cifar10 of the authors' code",
            _LRNAS,
            year=2025,
            robust=True,
        ),
        "lrnas_c100": PublishedGenotype(
            "LRNAS-C100",
            _genotype(
                "avg_pool_3x3 0 none 1  skip_connect 0 skip_connect 2  sep_conv_5x5 3 skip_connect 2"
                "  max_pool_3x3 4 sep_conv_5x5 1",
                "none 0 skip_connect 1  none 0 none 1  max_pool_3x3 1 none 0  skip_connect 4 sep_conv_3x3 0",
            ),
            "genotype search_cifar100 of the authors' code",
            _LRNAS,
            year=2025,
            robust=True,
        ),
        "eoinas": PublishedGenotype(
            "EoiNAS",
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  skip_connect 0 sep_conv_3x3 2"
                "  skip_connect 1 sep_conv_5x5 3  skip_connect 1 dil_conv_5x5 4",
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_3x3 0 sep_conv_5x5 1"
                "  sep_conv_5x5 0 dil_conv_5x5 3  dil_conv_5x5 2 dil_conv_5x5 3",
            ),
            "genotype EoiNAS in the code of LRNAS's authors, who compare with it",
            "X. Xie, Y. Zhou, S.-Y. Kung, Exploiting Operation Importance for Differentiable Neural Architecture "
            "Search (arXiv:1911.10511)",
            year=2019,
        ),
        "idarts": PublishedGenotype(
            "iDARTS",
            _genotype(
                "skip_connect 0 skip_connect 1  sep_conv_3x3 0 sep_conv_3x3 1"
                "  sep_conv_5x5 0 max_pool_3x3 3  sep_conv_3x3 0 sep_conv_5x5 0",
                "max_pool_3x3 0 avg_pool_3x3 1  sep_conv_3x3 0 sep_conv_5x5 1"
                "  sep_conv_3x3 0 avg_pool_3x3 2  sep_conv_3x3 0 sep_conv_5x5 1",
            ),
            "genotype iDARTS in the code of LRNAS's authors, who compare with it; two papers have that name, and its "
            "code does not say which one it is from",
            "H. Wang, R. Yang, D. Huang, Y. Wang, iDARTS: Improving DARTS by Node Normalization and Decorrelation "
            "Discretization (arXiv:2108.11014)",
            year=2021,
        ),
        "relativenas": PublishedGenotype(
            "RelativeNAS",
            _genotype(
                "dil_conv_5x5 0 sep_conv_5x5 1  sep_conv_5x5 0 sep_conv_5x5 1"
                "  dil_conv_5x5 0 sep_conv_3x3 1  dil_conv_5x5 2 avg_pool_3x3 4",
                "avg_pool_3x3 1 sep_conv_5x5 1  sep_conv_5x5 0 max_pool_3x3 0"
                "  dil_conv_5x5 2 sep_conv_3x3 3  max_pool_3x3 0 sep_conv_3x3 4",
            ),
            "genotype RelativeNAS in the code of LRNAS's authors, who compare with it",
            "H. Tan, R. Cheng, S. Huang, C. He, C. Qiu, F. Yang, P. Luo, RelativeNAS: Relative Neural Architecture "
            "Search via Slow-Fast Learning (arXiv:2009.06193)",
            year=2020,
        ),
        "snas": PublishedGenotype(
            "SNAS",
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  skip_connect 0 dil_conv_3x3 1"
                "  skip_connect 0 skip_connect 1  skip_connect 0 sep_conv_3x3 1",
                "max_pool_3x3 0 max_pool_3x3 1  max_pool_3x3 1 skip_connect 2"
                "  max_pool_3x3 1 skip_connect 2  max_pool_3x3 0 dil_conv_5x5 2",
            ),
            "genotype SNAS in the code of RNAS's authors, who compare with it",
            "S. Xie, H. Zheng, C. Liu, L. Lin, SNAS: Stochastic Neural Architecture Search, ICLR 2019 "
            "(arXiv:1812.09926)",
            year=2019,
        ),
        "pnas": PublishedGenotype(
            "PNAS",
            _genotype(
                "sep_conv_5x5 0 max_pool_3x3 0  sep_conv_7x7 1 max_pool_3x3 1"
                "  sep_conv_5x5 1 sep_conv_3x3 1  sep_conv_3x3 4 max_pool_3x3 1"
                "  sep_conv_3x3 0 skip_connect 1",
                "sep_conv_5x5 0 max_pool_3x3 0  sep_conv_7x7 1 max_pool_3x3 1"
                "  sep_conv_5x5 1 sep_conv_3x3 1  sep_conv_3x3 4 max_pool_3x3 1"
                "  sep_conv_3x3 0 skip_connect 1",
                concat=((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
            ),
            "genotype PNAS in the code of RNAS's authors, who compare with it",
            "C. Liu, B. Zoph, M. Neumann, J. Shlens, W. Hua, L.-J. Li, L. Fei-Fei, A. Yuille, J. Huang, K. Murphy, "
            "Progressive Neural Architecture Search, ECCV 2018 (arXiv:1712.00559)",
            year=2018,
        ),
        "amoebanet": PublishedGenotype(
            "AmoebaNet",
            _genotype(
                "avg_pool_3x3 0 max_pool_3x3 1  sep_conv_3x3 0 sep_conv_5x5 2"
                "  sep_conv_3x3 0 avg_pool_3x3 3  sep_conv_3x3 1 skip_connect 1"
                "  skip_connect 0 avg_pool_3x3 1",
                "avg_pool_3x3 0 sep_conv_3x3 1  max_pool_3x3 0 sep_conv_7x7 2"
                "  sep_conv_7x7 0 avg_pool_3x3 1  max_pool_3x3 0 max_pool_3x3 1"
                "  conv_7x1_1x7 0 sep_conv_3x3 5",
                concat=((4, 5, 6), (3, 4, 6)),
            ),
            "genotype AmoebaNet of DARTS' code",
            "E. Real, A. Aggarwal, Y. Huang, Q. V. Le, Regularized Evolution for Image Classifier Architecture "
            "Search, AAAI 2019 (arXiv:1802.01548)",
            year=2019,
        ),
        "nasnet": PublishedGenotype(
            "NASNet",
            _genotype(
                "sep_conv_5x5 1 sep_conv_3x3 0  sep_conv_5x5 0 sep_conv_3x3 0"
                "  avg_pool_3x3 1 skip_connect 0  avg_pool_3x3 0 avg_pool_3x3 0"
                "  sep_conv_3x3 1 skip_connect 1",
                "sep_conv_5x5 1 sep_conv_7x7 0  max_pool_3x3 1 sep_conv_7x7 0"
                "  avg_pool_3x3 1 sep_conv_5x5 0  skip_connect 3 avg_pool_3x3 2"
                "  sep_conv_3x3 2 max_pool_3x3 1",
                concat=((2, 3, 4, 5, 6), (4, 5, 6)),
            ),
            "genotype NASNet of DARTS' code",
            "B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le, Learning Transferable Architectures for Scalable Image "
            "Recognition, CVPR 2018 (arXiv:1707.07012)",
            year=2018,
        ),
    }
)

MSROBNET = Provenance(
    source="a genotype of aw_nas, the authors' code",
    paper="X. Ning, J. Zhao, W. Li, T. Zhao, Y. Zheng, H. Yang, Y. Wang, Discovering Robust Convolutional Architecture "
    "at Targeted Capacity: A Multi-Shot Approach (arXiv:2012.11835)",
)
MSROBNET_YEAR = 2020
MSROBNETS: Mapping[str, PublishedMsrobnet] = MappingProxyType(
    {
        "msrobnet_1000": PublishedMsrobnet(
            "MSRobNet-1000",
            "DenseRobGenotype(normal_0='init_node~2+|none~0|ResSepConv~1|+|sep_conv_3x3~0|none~1|skip_connect~2|+"
            "|sep_conv_3x3~0|none~1|sep_conv_3x3~2|none~3|+"
            "|none~0|sep_conv_3x3~1|skip_connect~2|ResSepConv~3|none~4|', "
            "normal_1='init_node~2+|ResSepConv~0|ResSepConv~1|+|none~0|none~1|skip_connect~2|+"
            "|sep_conv_3x3~0|skip_connect~1|none~2|ResSepConv~3|+"
            "|skip_connect~0|none~1|skip_connect~2|ResSepConv~3|sep_conv_3x3~4|', "
            "reduce_2='init_node~2+|ResSepConv~0|sep_conv_3x3~1|+|skip_connect~0|skip_connect~1|ResSepConv~2|+"
            "|none~0|sep_conv_3x3~1|skip_connect~2|skip_connect~3|+"
            "|sep_conv_3x3~0|none~1|none~2|sep_conv_3x3~3|sep_conv_3x3~4|', "
            "normal_3='init_node~2+|skip_connect~0|skip_connect~1|+|ResSepConv~0|skip_connect~1|none~2|+"
            "|ResSepConv~0|ResSepConv~1|sep_conv_3x3~2|skip_connect~3|+"
            "|none~0|sep_conv_3x3~1|sep_conv_3x3~2|ResSepConv~3|sep_conv_3x3~4|', "
            "normal_4='init_node~2+|sep_conv_3x3~0|skip_connect~1|+|none~0|ResSepConv~1|sep_conv_3x3~2|+"
            "|skip_connect~0|ResSepConv~1|skip_connect~2|sep_conv_3x3~3|+"
            "|sep_conv_3x3~0|skip_connect~1|skip_connect~2|none~3|ResSepConv~4|', "
            "reduce_5='init_node~2+|skip_connect~0|skip_connect~1|+|sep_conv_3x3~0|none~1|sep_conv_3x3~2|+"
            "|sep_conv_3x3~0|sep_conv_3x3~1|skip_connect~2|none~3|+"
            "|sep_conv_3x3~0|none~1|none~2|sep_conv_3x3~3|skip_connect~4|', "
            "normal_6='init_node~2+|none~0|ResSepConv~1|+|skip_connect~0|skip_connect~1|none~2|+"
            "|sep_conv_3x3~0|sep_conv_3x3~1|skip_connect~2|ResSepConv~3|+"
            "|none~0|skip_connect~1|sep_conv_3x3~2|skip_connect~3|sep_conv_3x3~4|', "
            "normal_7='init_node~2+|ResSepConv~0|skip_connect~1|+|none~0|ResSepConv~1|ResSepConv~2|+"
            "|none~0|ResSepConv~1|none~2|none~3|+|skip_connect~0|none~1|sep_conv_3x3~2|none~3|skip_connect~4|')",
            layout=(0, 1, 2, 3, 4, 5, 6, 7),
            channels=51,
        ),
        "msrobnet_1560": PublishedMsrobnet(
            "MSRobNet-1560",
            "DenseRobGenotype(normal_0='init_node~2+|skip_connect~0|sep_conv_3x3~1|+"
            "|none~0|skip_connect~1|skip_connect~2|+|none~0|sep_conv_3x3~1|ResSepConv~2|skip_connect~3|+"
            "|skip_connect~0|sep_conv_3x3~1|sep_conv_3x3~2|sep_conv_3x3~3|sep_conv_3x3~4|', "
            "normal_1='init_node~2+|ResSepConv~0|sep_conv_3x3~1|+|none~0|sep_conv_3x3~1|skip_connect~2|+"
            "|ResSepConv~0|ResSepConv~1|ResSepConv~2|none~3|+"
            "|none~0|skip_connect~1|sep_conv_3x3~2|sep_conv_3x3~3|skip_connect~4|', "
            "reduce_2='init_node~2+|ResSepConv~0|skip_connect~1|+|sep_conv_3x3~0|none~1|none~2|+"
            "|skip_connect~0|ResSepConv~1|sep_conv_3x3~2|none~3|+"
            "|ResSepConv~0|skip_connect~1|ResSepConv~2|none~3|skip_connect~4|', "
            "normal_3='init_node~2+|skip_connect~0|skip_connect~1|+|ResSepConv~0|none~1|ResSepConv~2|+"
            "|ResSepConv~0|none~1|ResSepConv~2|skip_connect~3|+"
            "|none~0|sep_conv_3x3~1|none~2|skip_connect~3|sep_conv_3x3~4|', "
            "normal_4='init_node~2+|ResSepConv~0|sep_conv_3x3~1|+|skip_connect~0|skip_connect~1|none~2|+"
            "|sep_conv_3x3~0|skip_connect~1|sep_conv_3x3~2|sep_conv_3x3~3|+"
            "|ResSepConv~0|ResSepConv~1|none~2|skip_connect~3|sep_conv_3x3~4|', "
            "reduce_5='init_node~2+|sep_conv_3x3~0|sep_conv_3x3~1|+|ResSepConv~0|sep_conv_3x3~1|ResSepConv~2|+"
            "|none~0|sep_conv_3x3~1|ResSepConv~2|sep_conv_3x3~3|+"
            "|ResSepConv~0|skip_connect~1|skip_connect~2|skip_connect~3|sep_conv_3x3~4|', "
            "normal_6='init_node~2+|none~0|ResSepConv~1|+|none~0|sep_conv_3x3~1|ResSepConv~2|+"
            "|skip_connect~0|ResSepConv~1|ResSepConv~2|none~3|+"
            "|ResSepConv~0|skip_connect~1|ResSepConv~2|none~3|sep_conv_3x3~4|', "
            "normal_7='init_node~2+|none~0|none~1|+|none~0|ResSepConv~1|none~2|+"
            "|sep_conv_3x3~0|skip_connect~1|ResSepConv~2|none~3|+"
            "|ResSepConv~0|skip_connect~1|skip_connect~2|none~3|ResSepConv~4|')",
            layout=(0, 1, 2, 3, 4, 5, 6, 7),
            channels=None,
        ),
        "msrobnet_2000": PublishedMsrobnet(
            "MSRobNet-2000",
            "DenseRobGenotype(normal_0='init_node~2+|ResSepConv~0|ResSepConv~1|+"
            "|ResSepConv~0|skip_connect~1|skip_connect~2|+"
            "|ResSepConv~0|skip_connect~1|sep_conv_3x3~2|skip_connect~3|+"
            "|none~0|skip_connect~1|sep_conv_3x3~2|sep_conv_3x3~3|skip_connect~4|', "
            "reduce_1='init_node~2+|sep_conv_3x3~0|none~1|+|sep_conv_3x3~0|sep_conv_3x3~1|sep_conv_3x3~2|+"
            "|sep_conv_3x3~0|none~1|none~2|skip_connect~3|+"
            "|sep_conv_3x3~0|sep_conv_3x3~1|ResSepConv~2|none~3|ResSepConv~4|', "
            "normal_2='init_node~2+|ResSepConv~0|skip_connect~1|+|ResSepConv~0|skip_connect~1|ResSepConv~2|+"
            "|sep_conv_3x3~0|sep_conv_3x3~1|ResSepConv~2|sep_conv_3x3~3|+"
            "|sep_conv_3x3~0|sep_conv_3x3~1|skip_connect~2|ResSepConv~3|sep_conv_3x3~4|', "
            "normal_3='init_node~2+|sep_conv_3x3~0|sep_conv_3x3~1|+|none~0|none~1|none~2|+"
            "|none~0|skip_connect~1|none~2|sep_conv_3x3~3|+"
            "|none~0|skip_connect~1|skip_connect~2|skip_connect~3|none~4|')",
            layout=(0, 0, 1, 2, 2, 1, 3, 3),
            channels=70,
        ),
    }
)

_ADVRUSH = "issue 2 of github.com/nutellamok/advrush"
_TRADES = "TRADES, one protocol for all"
_HUANG = "S. Huang, Z. Lu, K. Deb, V. N. Boddeti, CVPR 2023 (arXiv:2212.11005)"
REPORTED = (
    PublishedAccuracy(
        "advrush",
        "36 channels, 20 cells",
        "PGD-7",
        {"clean": 87.3, "PGD-20": 53.07, "AutoAttack": 50.04},
        f"its own: AutoAttack in the abstract, the others as quoted in {_ADVRUSH}",
        own=True,
    ),
    PublishedAccuracy(
        "advrush",
        "36 channels, 20 cells",
        "PGD-7 by its authors' command, last epoch",
        {"clean": 85.69, "PGD-20": 45.45},
        f"a user, in {_ADVRUSH}",
    ),
    PublishedAccuracy(
        "msrobnet_1560",
        "as many multiply-adds as RobNet-free",
        "PGD-7",
        {"clean": 84.8, "PGD-7": 52.9},
        "its own",
        own=True,
    ),
    PublishedAccuracy(
        "robnet_large_v2", "33.3 M", _TRADES, {"clean": 84.57, "PGD-20": 52.79, "AutoAttack": 47.48}, _HUANG
    ),
    PublishedAccuracy(
        "racl",
        "104 channels, 7 cells, 32.5 M",
        _TRADES,
        {"clean": 83.91, "PGD-20": 55.98, "AutoAttack": 51.37},
        _HUANG,
    ),
    PublishedAccuracy(
        "advrush",
        "96 channels, 7 cells, 32.6 M",
        _TRADES,
        {"clean": 84.95, "PGD-20": 56.99, "AutoAttack": 52.90},
        _HUANG,
    ),
)
