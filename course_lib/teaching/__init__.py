"""What chapters use: figures, checks of exercises, recorded results.

check              is an answer right, and if not, why?   (`compare` compares answers)
progress           which exercises are solved             (`solved` stores them)
style, plots       the course's figures and their style
explorable         interactive figures, which also work on a page without a kernel
schematics         drawings of architectures (also `schematics_latent`, `schematics_text`, `shapes`)
history            who published what when
reference_runs     what good looks like
results            results of recorded studies, with their figures in `study_figures`
by_hand            chapter 04: code on a page, compared with the library's
unet_costs         chapter 04: where a U-Net spends its multiplications
unet_variants      chapter 04: networks with a part of the U-Net switched off
caption_tests      chapter 06: zero-shot questions, and captions that contradict a picture
quarters           chapter 07: a toy task
interventions      chapter 07: captions whose context vectors are exchanged
attention_figures  which position reads which word
cards              model cards and data statements (with `credits`, `data_facts`, `energy_table`)
"""

__all__ = [
    "attention_figures",
    "by_hand",
    "caption_tests",
    "check",
    "compare",
    "explorable",
    "history",
    "interventions",
    "plots",
    "progress",
    "quarters",
    "reference_runs",
    "results",
    "schematics",
    "schematics_latent",
    "schematics_text",
    "shapes",
    "solved",
    "study_figures",
    "style",
    "unet_costs",
    "unet_variants",
]
