"""The workspace of this project: which panels stand in which section, by the keys that training and reports log."""

from salsa.dashboard.panels import Axis, Bars, Cloud, Family, Images, Layout, Lines, Section, Table

STEP = Axis("trainer/global_step", "training step (PPO: iteration)")
ITERATION = Axis("step", "PPO iterations done")
MODELS = ("SFT1", "SFT2", "soup", "PPO", "SALSA", "ref SFT2", "start+ref soup")
"""The rows of an experiment as the defaults name them."""
REWARD = "normalised score (SFT1: mean 0, deviation 1)"
NATS_A_REPLY, NATS_A_TOKEN, NATS = "nats a reply", "nats a token", "nats"
SHARE, TOKENS = "share, 0 to 1", "tokens"
JUDGE = "judge's points (gold reward in the embedded world)"

REWARDS = Section(
    "Reward, coefficient and KL in training",
    (
        Lines("Reward-model score", ("reward/score",), REWARD, STEP),
        Lines("KL to the arm's own reference", ("kl/reply_k1", "kl/reply_k3"), NATS_A_REPLY, STEP),
        Lines("KL coefficient", ("kl/coefficient",), "reward a nat", STEP),
        Lines("Objective: score - coefficient x KL", ("reward/objective",), REWARD, STEP),
        Lines("KL a token", ("kl/token_k1", "kl/token_k3"), NATS_A_TOKEN, STEP),
        Lines("Score on fixed prompts", ("validation/score",), REWARD, STEP),
        Lines("Objective on fixed prompts (chooses the policy that is kept)", ("validation/objective",), REWARD, STEP),
        Cloud(
            "Score against KL to the own reference, fixed prompts, end of training",
            Axis("validation/kl", NATS_A_REPLY),
            Axis("validation/score", REWARD),
        ),
    ),
    shown=True,
)
REPLIES = Section(
    "Replies in training",
    (
        Lines("Reply length", ("reply/length",), TOKENS, STEP),
        Lines("Entropy of the policy", ("reply/entropy",), NATS_A_TOKEN, STEP),
        Lines("Replies without an end", ("reply/unfinished",), SHARE, STEP),
    ),
    shown=True,
)
GOLD = Section(
    "Gold and KL to common anchors, over training (of reports)",
    (
        Family("Gold or judge", "curves/judge/", JUDGE, ITERATION),
        Family("Reward-model score", "curves/reward/", REWARD, ITERATION),
        Family("KL to SFT1 (k1)", "curves/kl/SFT1/k1/", NATS_A_REPLY, ITERATION),
        Family("KL to SFT2 (k1)", "curves/kl/SFT2/k1/", NATS_A_REPLY, ITERATION),
        Family("KL to the soup (k1)", "curves/kl/soup/k1/", NATS_A_REPLY, ITERATION),
        Family("Reply length", "curves/length/", TOKENS, ITERATION),
        Family("Replies without an end", "curves/unfinished/", SHARE, ITERATION),
    ),
    shown=True,
)
RESULTS = Section(
    "Results",
    (
        Bars("Gold or judge, all suites", tuple(f"judge/{name}" for name in MODELS), JUDGE),
        Bars("Gold or judge by model and suite", ("judge",), JUDGE),
        Bars("Reward-model score by model and suite", ("reward",), REWARD),
        Bars("KL to SFT1, SFT2 and the soup (k1)", ("kl_sft_1", "kl_sft_2", "kl_soup"), NATS_A_REPLY),
        Bars("Recall of facts", ("recall",), SHARE),
        Bars("Perplexity on held-out text", ("perplexity",), "perplexity a token"),
        Table("Results: gold, win rates, KL, tax, with intervals", "results"),
        Images("Figures of experiments", ("figures/curves", "figures/scores", "figures/calibration")),
    ),
    shown=True,
)
WIN_RATES = Section(
    "Win rates (judges that read replies) and the choice of coefficients",
    (
        Bars("Win rate against SFT1", tuple(f"win_rate/{name} against SFT1" for name in MODELS[1:]), SHARE),
        Bars(
            "Win rate against PPO",
            tuple(f"win_rate/{name} against PPO" for name in MODELS if name != "PPO"),
            SHARE,
        ),
        Bars("Win rate at the chosen coefficient, validation suite", ("win_rate",), SHARE),
        Bars("Chosen KL coefficient", ("coefficient",), "reward a nat"),
    ),
)
SWEEPS = Section(
    "Sweeps, studies and landscapes",
    (
        Table("Sweep: a row an experiment and suite", "sweep"),
        Bars("Experiments of a sweep", ("done", "failed", "missing"), "experiments"),
        Images("Gold and win rate over a swept key", ("figures/over_soup.alpha", "figures/over_policy.kl_coef")),
        Images("Studies: win rates", ("figures/win_rates", "figures/win_rate_line")),
        Images("Studies: over training", ("figures/gold_training", "figures/kl_training")),
        Images("Studies: gold against distance", ("figures/frontier",)),
        Images("Landscapes", ("figures/line", "figures/plane", "figures/layers")),
    ),
)
SAMPLES = Section(
    "Samples",
    (Table("Replies: of a policy over its training, of all models side by side in a report", "samples"),),
    shown=True,
)
OPTIMISATION = Section(
    "PPO: policy and critic",
    (
        Lines("Clip fraction of the policy", ("policy/clip_fraction",), SHARE, STEP),
        Lines("KL between updates", ("policy/approx_kl",), NATS_A_TOKEN, STEP),
        Lines("Policy loss", ("policy/loss",), "loss", STEP),
        Lines("Value loss", ("critic/loss",), "half the squared error of the return", STEP),
        Lines("Clip fraction of the critic", ("critic/clip_fraction",), SHARE, STEP),
        Lines("Variance of returns that the critic explains", ("critic/explained_variance",), "share, at most 1", STEP),
        Lines("Gradient norms", ("policy/gradient_norm", "critic/gradient_norm"), "norm before clipping", STEP),
        Lines("Learning rates", ("policy/learning_rate", "critic/learning_rate"), "learning rate", STEP),
        Lines("Updates left out", ("policy/skipped_updates", "critic/skipped_updates"), "updates", STEP),
    ),
)
FINE_TUNING = Section(
    "Base, SFT and reward model",
    (
        Lines("Loss: base and SFT a token, reward model a pair", ("loss",), NATS, STEP),
        Lines("Accuracy of the reward model, training pairs", ("accuracy",), SHARE, STEP),
        Lines("Margin of the reward model, training pairs", ("margin",), "raw score", STEP),
        Lines("Gradient norm", ("gradient_norm",), "norm before clipping", STEP),
        Lines("Learning rate", ("learning_rate",), "learning rate", STEP),
        Bars("Reward model on held-out pairs: accuracy, Brier score, ECE", ("accuracy", "brier", "ece"), SHARE),
        Bars("Reward model on held-out pairs: log loss", ("log_loss",), "nats a pair"),
        Bars("Labels that agree with gold", ("agreement",), SHARE),
        Bars("Cosine of the task vectors", ("cosine",), "cosine"),
    ),
)
# Runs of a sweep, study or experiment together; in it the stages of a kind; in these the runs of one name as one line.
LAYOUT = Layout(
    title="salsa",
    sections=(REWARDS, REPLIES, GOLD, RESULTS, WIN_RATES, SAMPLES, SWEEPS, OPTIMISATION, FINE_TUNING),
    grouping=("Group", "JobType", "Name"),
    columns=("reward/score", "validation/score", "kl/reply_k1", "kl/coefficient", "judge", "win_rate"),
)
