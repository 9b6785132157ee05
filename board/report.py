"""What the run prints."""


def say(text):
    print(text, flush=True)


def passed(name, found):
    say(f"ok  {name:<34} {found}")
