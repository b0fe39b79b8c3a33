"""Planted bugs in what is made of input that nobody wants."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "a password in an address is printed",
        "probekit.privacy",
        "return LOOKS_SECRET.sub(HIDDEN, text)",
        "return text",
        ("tests/security/test_secrets.py::test_what_looks_secret_is_hidden_wherever_it_stands",),
    ),
    Mutation(
        "a run of a model called .. lies outside the folder of runs",
        "probekit.runs.folder",
        'return (path if path.name not in {"", ".."} else path.resolve()).name or "model"',
        'return path.name or "model"',
        (
            "tests/security/test_limits.py"
            "::test_a_model_s_name_leads_nowhere_but_into_the_folder_of_runs[..]",
        ),
    ),
    Mutation(
        "whoever puts a run on the Hub says what code runs where it is read",
        "probekit.runs.folder",
        "replace(record, trust_remote_code=False) if name_of(path) else record",
        "record",
        (
            "tests/pipelines/publishing/test_push.py"
            "::test_a_run_from_the_hub_does_not_say_what_code_runs",
        ),
    ),
    Mutation(
        "the name of a text may steer the terminal",
        "probekit.data.documents",
        "or not name.isprintable()",
        "",
        (
            "tests/hostile/test_cases.py"
            "::test_the_answer_is_one_sentence_and_listed[names: a text with an escape]",
        ),
    ),
    Mutation(
        "what the user of a chat says is a target too",
        "probekit.data.prompted.chat_tokens",
        "found.append((len(before), len(after)))",
        "found.append((0, len(after)))",
        (
            "tests/data/test_chat_tokens.py"
            "::test_what_the_assistant_says_is_target_and_all_else_context[plain]",
        ),
    ),
    Mutation(
        "a turn of a chat is predicted from the turn before it",
        "probekit.data.blocks",
        "(here == there) & (asides[:, :-offset] == asides[:, offset:])",
        "here == there",
        ("tests/data/test_blocks.py::test_targets_of_a_chat_are_predicted_from_their_own_turn",),
    ),
)
