"""All keys that a published config may have: some are read, some are fixed, some are free.

A checkpoint lists about two hundred settings, but Stable Diffusion 1 models differ in only about
twenty. The tables list them all, so that no setting that would change pictures is ignored.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from course_lib.common.checks import whole_numbers
from course_lib.models.tokenizer import END, START


class Keys(NamedTuple):
    """The keys of one part of a checkpoint."""

    read: dict[str, Any]  # what is read from the config; the values are the library's defaults
    fixed: dict[str, Any]  # the only value that the course's networks support
    free: str  # keys that don't change the prediction


UNET = Keys(
    read=dict(
        in_channels=4,
        out_channels=4,
        block_out_channels=[320, 640, 1280, 1280],
        layers_per_block=2,
        down_block_types=[*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        up_block_types=["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        attention_head_dim=8,  # diffusers' name for the number of heads
        cross_attention_dim=1280,
    ),
    fixed=dict(
        _class_name="UNet2DConditionModel",
        # the time
        flip_sin_to_cos=True,
        freq_shift=0,
        time_embedding_type="positional",
        time_embedding_dim=None,
        time_embedding_act_fn=None,
        timestep_post_act=None,
        time_cond_proj_dim=None,
        resnet_time_scale_shift="default",
        resnet_skip_time_act=False,
        # other conditions
        class_embed_type=None,
        num_class_embeds=None,
        class_embeddings_concat=False,
        projection_class_embeddings_input_dim=None,
        addition_embed_type=None,
        addition_time_embed_dim=None,
        encoder_hid_dim=None,
        encoder_hid_dim_type=None,
        # convolutions
        center_input_sample=False,
        conv_in_kernel=3,
        conv_out_kernel=3,
        act_fn="silu",
        norm_num_groups=32,
        norm_eps=1e-5,
        downsample_padding=1,
        resnet_out_scale_factor=1,
        mid_block_scale_factor=1,
        mid_block_type="UNetMidBlock2DCrossAttn",
        # attention
        attention_type="default",
        num_attention_heads=None,
        transformer_layers_per_block=1,
        reverse_transformer_layers_per_block=None,
        only_cross_attention=False,
        mid_block_only_cross_attention=None,
        dual_cross_attention=False,
        cross_attention_norm=None,
    ),
    free="sample_size dropout use_linear_projection upcast_attention addition_embed_type_num_heads "
    # settings of the EMA
    "decay min_decay optimization_step update_after_step use_ema_warmup inv_gamma power",
)
COPIED = (  # the settings of a U-Net that its ControlNet has as well
    "in_channels block_out_channels layers_per_block down_block_types attention_head_dim "
    "cross_attention_dim"
)
CONTROLNET = Keys(
    read={key: UNET.read[key] for key in COPIED.split()}
    | dict(conditioning_channels=3, conditioning_embedding_out_channels=[16, 32, 96, 256]),
    fixed=UNET.fixed
    | dict(
        _class_name="ControlNetModel",
        controlnet_conditioning_channel_order="rgb",
        global_pool_conditions=False,
    ),
    free=UNET.free,
)
VAE = Keys(
    read=dict(
        block_out_channels=[64],
        layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D"],
        latent_channels=4,
        scaling_factor=0.18215,
    ),
    fixed=dict(
        _class_name="AutoencoderKL",
        in_channels=3,
        out_channels=3,
        act_fn="silu",
        norm_num_groups=32,
        shift_factor=None,
        latents_mean=None,
        latents_std=None,
        use_quant_conv=True,
        use_post_quant_conv=True,
        mid_block_add_attention=True,
    ),
    free="sample_size force_upcast",
)
TEXT = Keys(
    read=dict(
        vocab_size=49408,
        max_position_embeddings=77,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
    ),
    fixed=dict(model_type="clip_text_model", hidden_act="quick_gelu", layer_norm_eps=1e-5),
    free="architectures transformers_version dtype torch_dtype dropout attention_dropout "
    "initializer_range initializer_factor gradient_checkpointing "
    # outputs that Stable Diffusion doesn't use
    "projection_dim pad_token_id bos_token_id eos_token_id output_hidden_states output_attentions "
    "return_dict use_cache chunk_size_feed_forward is_encoder_decoder id2label label2id "
    "problem_type "
    # settings of all text models in older configs, most of them for generating text
    "add_cross_attention begin_suppress_tokens diversity_penalty do_sample early_stopping "
    "encoder_no_repeat_ngram_size is_decoder length_penalty max_length min_length "
    "no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores "
    "pruned_heads remove_invalid_values repetition_penalty return_dict_in_generate temperature "
    "tf_legacy_loss tie_encoder_decoder tie_word_embeddings top_k top_p torchscript typical_p "
    "use_bfloat16",
)
SCHEDULER = Keys(
    read=dict(prediction_type="epsilon", beta_schedule="linear", beta_start=1e-4, beta_end=0.02),
    fixed=dict(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        trained_betas=None,
        rescale_betas_zero_snr=False,
        use_flow_sigmas=False,
        thresholding=False,
    ),
    # settings of the sampler, which is the course's own
    free="algorithm_type clip_sample clip_sample_range disable_corrector "
    "dynamic_thresholding_ratio euler_at_final final_sigmas_type flow_shift interpolation_type "
    "lambda_min_clipped lower_order_final noise_sampler_seed predict_x0 sample_max_value "
    "set_alpha_to_one shift_terminal sigma_max sigma_min skip_prk_steps solver_order solver_p "
    "solver_type steps_offset tensor_format time_shift_type timestep_spacing timestep_type "
    "timestep_values use_beta_sigmas use_dynamic_shifting use_exponential_sigmas use_karras_sigmas "
    "use_lu_lambdas variance_type",
)
TOKENIZER = Keys(
    read=dict(model_max_length=10**30),  # no limit
    fixed=dict(
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        do_lower_case=True,
        padding_side="right",
        split_special_tokens=False,
        extra_special_tokens=None,
        additional_special_tokens=None,
    ),
    free="add_prefix_space added_tokens_decoder backend chat_template clean_up_tokenization_spaces "
    "errors is_local local_files_only model_input_names name_or_path processor_class "
    "special_tokens_map_file tokenizer_class tokenizer_file use_fast verbose "
    # how captions were truncated and padded in one call, which some tools save
    "max_length pad_to_multiple_of pad_token_type_id padding stride truncation truncation_side "
    "truncation_strategy",
)


def read_settings(config: Mapping[str, Any], part: str, keys: Keys) -> dict[str, Any]:
    """The values of the keys to read; ValueError for a fixed key that differs or an unknown key.

    Keys that start with an underscore say where a file came from; null means not in use.
    """
    known = {*keys.read, *keys.fixed, *keys.free.split()}
    for key, value in config.items():
        if key not in known and not key.startswith("_") and value is not None:
            raise ValueError(f"{part}: unknown setting {key}={value!r}, which may change pictures")
    same(part, config, keys.fixed, keys.read)
    settings = {key: plain(config.get(key, value), value) for key, value in keys.read.items()}
    for key, value in settings.items():
        check_like(f"{part}: {key}", value, keys.read[key])
    return settings


def same(part: str, config: Mapping, wanted: Mapping, defaults: Mapping | None = None) -> None:
    """ValueError if a config's value differs from the wanted one."""
    for key, value in wanted.items():
        found = config.get(key, (defaults or {}).get(key, value))
        if (plain(found, value) or None) != (value or None):  # null, false, 0, []: not in use
            default = "" if key in config else " by default"
            raise ValueError(f"{part}: {key} is {found!r}{default}, expected {value!r}")


def plain(value: Any, like: Any) -> Any:
    """The value of a list that repeats it for each stage; the text of a special token."""
    if isinstance(value, list) and not isinstance(like, list) and value[1:] == value[:-1]:
        return value[0] if value else value
    return value.get("content", value) if isinstance(value, dict) else value


def check_like(name: str, value: Any, default: Any) -> None:
    """ValueError for a value of another type than the default, which is a size, factor or list."""
    if isinstance(default, int):
        whole_numbers(1, **{name: value})
    elif isinstance(default, float) and not (type(value) in (int, float) and 0 < value < inf):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    elif isinstance(default, str | list) and not (isinstance(value, type(default)) and value):
        raise ValueError(f"{name} is {value!r}, expected a value such as {default!r}")
    if isinstance(default, list):
        for each in value:
            check_like(name, each, default[0])
