"""What a chapter calls for its reader: figures, widgets, checks of exercises, recorded results.

caption_tests   chapter 06: questions to a model of captions, and captions that contradict
check           is an answer right, and if not, why?   (answers are compared in `compare`)
progress        which exercises are solved             (remembered by `solved`)
style, plots    the course's figures and how they look
widgets         figures with sliders
history         who published what when
reference_runs  what good looks like
results         results of recorded studies, with their figures in `study_figures`
unet_variants   chapter 04's networks, with a part of the U-Net switched off
unet_costs      where a U-Net spends its multiplications
by_hand         code on a page, compared with the library's
"""

__all__ = [
    "by_hand",
    "caption_tests",
    "check",
    "compare",
    "history",
    "plots",
    "progress",
    "reference_runs",
    "results",
    "solved",
    "study_figures",
    "style",
    "unet_costs",
    "unet_variants",
    "widgets",
]
