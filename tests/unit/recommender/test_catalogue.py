"""Every name that people give a GPU leads to its product, and what the catalogue says of it is plausible."""

from __future__ import annotations

import pytest

from plimsoll_recommender import ModelFacts, UnknownAcceleratorError, UnknownModelError, accelerator
from plimsoll_recommender.catalogue.accelerators import catalogue

NAMES = {
    "NVIDIA-H100-80GB-HBM3": ["H100", "h100_sxm", "h100-sxm5", "H100 80GB", "NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"],
    "NVIDIA-H100-PCIe": ["H100 PCIe", "h100_pcie", "NVIDIA-H100-PCIe"],
    "NVIDIA-H100-NVL": ["H100 NVL", "h100nvl"],
    "NVIDIA-H200": ["H200", "h200_sxm", "H200-141GB"],
    "NVIDIA-GH200-480GB": ["GH200", "gh200_480gb"],
    "NVIDIA-B200": ["B200", "b200_sxm", "B200-180GB"],
    "NVIDIA-B300-SXM6-AC": ["B300", "b300_sxm", "NVIDIA-B300"],
    "NVIDIA-GB200": ["GB200", "gb200_nvl72"],
    "NVIDIA-GB300": ["GB300"],
    "NVIDIA-A100-SXM4-80GB": ["A100", "a100_sxm", "A100-80GB", "A100-SXM4-80GB"],
    "NVIDIA-A100-SXM4-40GB": ["A100-40GB", "a100_40gb", "A100-SXM4-40GB"],
    "NVIDIA-A100-80GB-PCIe": ["A100 PCIe", "A100-PCIE-80GB"],
    "NVIDIA-A100-PCIE-40GB": ["A100-PCIE-40GB"],
    "NVIDIA-A30": ["A30"],
    "NVIDIA-A10": ["A10", "nvidia-a10"],
    "NVIDIA-A10G": ["A10G"],
    "NVIDIA-A40": ["A40"],
    "NVIDIA-RTX-A6000": ["A6000", "RTX A6000", "rtx_a6000"],
    "NVIDIA-GeForce-RTX-3090": ["RTX 3090", "rtx3090", "3090"],
    "NVIDIA-GeForce-RTX-4090": ["RTX 4090", "GeForce RTX 4090", "4090"],
    "NVIDIA-GeForce-RTX-5090": ["RTX 5090", "rtx-5090", "5090"],
    "NVIDIA-L4": ["L4", "nvidia-l4", "NVIDIA-L4-SHARED"],
    "NVIDIA-L40S": ["L40S", "l40s"],
    "NVIDIA-L40": ["L40"],
    "NVIDIA-RTX-6000-Ada-Generation": ["RTX 6000 Ada"],
    "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition": ["PRO 6000", "RTX PRO 6000", "rtx_pro_6000"],
    "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition": ["RTX PRO 6000 Workstation", "rtx_pro_6000_ws"],
    "NVIDIA-GB10": ["GB10", "DGX Spark"],
    "Tesla-V100-SXM2-16GB": ["V100", "v100_16gb", "V100-SXM2-16GB"],
    "Tesla-V100-SXM2-32GB": ["V100-32GB", "V100-SXM2-32GB"],
    "Tesla-T4": ["T4", "tesla-t4", "NVIDIA T4"],
    "AMD_Instinct_MI300X_OAM": ["MI300X", "mi300x", "AMD Instinct MI300X"],
    "AMD_Instinct_MI325X_OAM": ["MI325X"],
    "AMD_Instinct_MI350X_OAM": ["MI350X"],
    "AMD_Instinct_MI355X_OAM": ["MI355X", "AMD-Instinct-MI355X-OAM"],
    "AMD_Instinct_MI250X_OAM": ["MI250X", "MI250"],
}  # fmt: skip

MEASURED_GIB = {
    # Totals that start-up logs and drivers report, GiB.
    "H100": 79.19, "A100-40GB": 39.5, "A100-80GB": 79.25, "L40S": 44.42, "L4": 22.49, "RTX 3090": 23.58,
    "RTX 5090": 31.4, "RTX PRO 6000": 95.6, "V100-16GB": 15.77, "GB10": 121.6, "MI300X": 191.98, "A6000": 47.41,
}  # fmt: skip


@pytest.mark.parametrize(("product", "alias"), [(product, name) for product, names in NAMES.items() for name in names])
def test_aliases(product: str, alias: str) -> None:
    assert accelerator(alias).product == product


def test_every_product_has_names_people_use() -> None:
    assert set(NAMES) == {item.product for item in catalogue()}


@pytest.mark.parametrize("item", catalogue(), ids=lambda item: item.product)
def test_every_row_is_plausible(item: object) -> None:
    gpu = next(found for found in catalogue() if found is item)
    assert accelerator(gpu.product) is gpu
    assert 10 < gpu.memory_gib < 300
    # A token reads every weight once: memory of one GPU is read in 5 ms to half a second.
    assert 0.005 < gpu.memory_gib * 1024**3 / gpu.memory_bandwidth < 0.5
    assert gpu.flops_16bit > 1e13
    assert gpu.flops_fp8 is None or gpu.flops_fp8 >= gpu.flops_16bit
    assert gpu.flops_fp4 is None or (gpu.flops_fp8 is not None and gpu.flops_fp4 >= gpu.flops_fp8)
    assert gpu.bfloat16 == (gpu.architecture not in ("volta", "turing"))
    assert gpu.link_domain >= 1
    assert 0 < gpu.hourly_cost < 20


@pytest.mark.parametrize(("name", "gib"), list(MEASURED_GIB.items()))
def test_memory_is_what_drivers_report(name: str, gib: float) -> None:
    assert accelerator(name).memory_gib == gib


NOMINAL_GIB = {"T4": 16, "A10": 24, "A10G": 24, "A40": 48, "L4": 24, "L40": 48, "L40S": 48}
"""What is soldered on the cards whose codes are kept in the memory itself."""


@pytest.mark.parametrize("item", catalogue(), ids=lambda item: item.product)
def test_codes_in_the_memory_take_a_sixteenth_of_it_and_of_its_bandwidth(item: object) -> None:
    gpu = next(found for found in catalogue() if found is item)
    nominal = next((size for name, size in NOMINAL_GIB.items() if accelerator(name) is gpu), None)
    assert gpu.ecc_in_band == (nominal is not None)
    if nominal is None:
        assert gpu.data_bandwidth == gpu.memory_bandwidth
    else:
        assert gpu.data_bandwidth == gpu.memory_bandwidth * 15 / 16
        # The driver keeps up to half a GiB for itself beside the codes.
        assert nominal * 15 / 16 - 0.7 < gpu.memory_gib < nominal * 15 / 16


@pytest.mark.parametrize(
    ("name", "near"),
    [("H1000", "NVIDIA-H100-80GB-HBM3"), ("MI300", "AMD_Instinct_MI300X_OAM"), ("RTX 4080", "NVIDIA-GeForce-RTX-4090"),
     ("L44", "NVIDIA-L4"), ("A100-60GB", "NVIDIA-A100-SXM4-40GB")],
)  # fmt: skip
def test_unknown_names_are_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownAcceleratorError, match="did you mean") as refused:
        accelerator(name)
    assert near in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "   ", "GPU", "\n", "NVIDIA", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "x" * 10_000])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownAcceleratorError) as refused:
        accelerator(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["x" * 10_000, "~no-such-user/model", "a\0b"], ids=["long", "home", "zero byte"])
def test_a_model_that_cannot_even_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(UnknownModelError) as refused:
        ModelFacts.load(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
