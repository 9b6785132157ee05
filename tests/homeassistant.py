"""Renders the templates of a discovery message as Home Assistant does, in Jinja's sandbox.

    homeassistant.py MESSAGES.json

MESSAGES.json is {"config": the discovery message, "states": {topic: last payload as text, …}}. Prints as JSON what each
entity shows.
"""

import json
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment

environment = ImmutableSandboxedEnvironment()


def render(template, payload):
    values = {"value": payload}
    try:
        values["value_json"] = json.loads(payload)
    except ValueError:
        pass
    return environment.from_string(template).render(values)


with open(sys.argv[1]) as file:
    messages = json.load(file)
config, states = messages["config"], messages["states"]
shown = {
    name: render(component["value_template"], states[component["state_topic"]])
    for name, component in config["cmps"].items()
}
shown["availability"] = [render(a["value_template"], states[a["topic"]]) for a in config["availability"]]
print(json.dumps(shown))
