-- The tables of the resources. `forgecore migrate diff` compares the database with them.
% for table in view.tables:

CREATE TABLE ${table.name} (
% for line in table.lines:
    ${line.text}${"" if loop.last else ","}
% endfor
);
% for index in table.indexes:
${index.text}
% endfor
% endfor
% for reference in view.references:

${block(reference.text)}
% endfor
