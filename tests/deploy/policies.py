"""Prints the trust and permissions policies of a CloudFormation template, as CloudFormation would make them of these parameters.

usage: policies.py TEMPLATE [NAME=VALUE ...]
"""

import json
import sys

import yaml


class Template(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions as their long forms."""


def function(loader, suffix, node):
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    return {name: loader.construct_sequence(node, deep=True)}


Template.add_multi_constructor("!", function)
NOTHING = object()


def evaluate(node, template, parameters):
    def go(value):
        return evaluate(value, template, parameters)

    if isinstance(node, list):
        return [value for value in map(go, node) if value is not NOTHING]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        (name, argument), = node.items()
        if name == "Ref":
            return NOTHING if argument == "AWS::NoValue" else parameters[argument]
        if name == "Fn::If":
            condition, yes, no = argument
            return go(yes if go(template["Conditions"][condition]) else no)
        if name == "Fn::Equals":
            left, right = map(go, argument)
            return left == right
        if name == "Fn::Not":
            return not go(argument[0])
        if name == "Fn::FindInMap":
            mapping, first, second = map(go, argument)
            return template["Mappings"][mapping][first][second]
        if name == "Fn::Sub":
            for key, value in parameters.items():
                argument = argument.replace("${" + key + "}", value)
            return argument
    pairs = ((key, go(value)) for key, value in node.items())
    return {key: value for key, value in pairs if value is not NOTHING}


def main(path, *settings):
    with open(path, encoding="utf-8") as file:
        template = yaml.load(file, Loader=Template)
    parameters = {name: one.get("Default", "") for name, one in template["Parameters"].items()}
    parameters["AWS::Partition"] = "aws"
    parameters.update(setting.split("=", 1) for setting in settings)
    role = evaluate(template["Resources"]["Role"]["Properties"], template, parameters)
    policy, = role["Policies"]
    trust = role["AssumeRolePolicyDocument"]
    print(json.dumps({"trust_policy": trust, "permissions_policy": policy["PolicyDocument"]}))


main(*sys.argv[1:])
