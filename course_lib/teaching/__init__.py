"""What a chapter calls for its reader: figures, widgets, checks of exercises, recorded results.

check           is an answer right, and if not, why?   (answers are compared in `compare`)
progress        which exercises are solved             (remembered by `solved`)
style, plots    the course's figures and how they look
widgets         figures with sliders
diagrams        how the components fit together
history         who published what when
reference_runs  what good looks like
results         results of recorded studies, with their figures in `study_figures`
unet_variants   chapter 04's networks, with a part of the U-Net switched off
quarters        chapter 07's toy task
interventions   captions whose context vectors are exchanged
attention_figures  which position reads which word
"""

__all__ = [
    "attention_figures",
    "check",
    "compare",
    "diagrams",
    "history",
    "interventions",
    "plots",
    "progress",
    "quarters",
    "reference_runs",
    "results",
    "solved",
    "study_figures",
    "style",
    "unet_variants",
    "widgets",
]
